# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults on demand: an HTTP endpoint of its own, apart from the Manager's API, and what it can break."""
