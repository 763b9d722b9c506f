# SPDX-License-Identifier: GPL-3.0-or-later
"""Side by side with ovirt-imageio's own client: `make bench`, docs/performance.md."""
