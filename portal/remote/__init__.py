# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines that are reached by SSH: pinned host keys, built commands, and work that outlives a session (docs/hosts.md)."""
