# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from portal.errors import PortalError


class PlanChanged(PortalError):
    """The world is no longer as it was when the plan was shown."""


class PlanBlocked(PortalError):
    """The plan has blockers."""


class ApprovalMissing(PortalError):
    """The restore needs a second person's consent and has none."""


class ApprovalRefused(PortalError):
    """A second person said no."""


class ApprovalExpired(PortalError):
    """Nobody said yes or no in time."""


class AlreadyDecided(PortalError):
    """Somebody has said yes or no, or the restore is over."""


class StorageFull(PortalError):
    """The storage domain has not enough room for the restored disks."""


class RestoreNotEqual(PortalError):
    """The restored disk differs from the restore point."""
