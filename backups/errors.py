# SPDX-License-Identifier: GPL-3.0-or-later
"""What can stand in the way of a backup."""

from __future__ import annotations

from portal.errors import PortalError


class BackupAlreadyRunning(PortalError):
    """The VM has an unfinished backup job."""


class NothingToBackUp(PortalError):
    """The VM has no disk that the Manager can back up."""


class NoRepository(PortalError):
    """There is nowhere to keep a restore point."""


class PointInUse(PortalError):
    """A job needs this restore point."""


class ImportRefused(PortalError):
    """A repository, or a part of it, is not taken over."""


class PointHeld(PortalError):
    """A legal hold lies on the restore point."""


class PointPinned(PortalError):
    """The restore point is pinned, so no rule deletes it."""


class PointPurged(PortalError):
    """The restore point has left the trash: its files are gone."""


class ReasonNeeded(PortalError):
    """This is only done for a reason that is written down."""

    status = 422


class RepositoryDamaged(PortalError):
    """A verification of a whole repository found damage."""


class PointDamaged(PortalError):
    """A restore point is not as it was stored."""


class BackupIncomplete(PortalError):
    """Not everything of the backup could be stored, so no restore point was made."""

    retryable = True


class MachineBusy(PortalError):
    """The Manager was doing something else with the machine for too long."""


class QuotaReached(PortalError):
    """The team takes up as much as it may."""


class RepositoryKnown(PortalError):
    """There is a repository of this folder or name already."""
