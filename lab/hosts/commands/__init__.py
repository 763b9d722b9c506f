# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands of a lab host, run inside its private root by the system's Python: the standard library only."""
