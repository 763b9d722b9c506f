# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo: a lab, a portal, and a story that is measured while it happens. Uses only what everybody uses."""
