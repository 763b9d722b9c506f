# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores are tested on the same machine and point as backups."""

from tests.backups.conftest import point, vm

__all__ = ["point", "vm"]
