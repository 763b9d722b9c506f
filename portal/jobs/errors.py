# SPDX-License-Identifier: GPL-3.0-or-later
"""Ways a job stops before its end. None of these is an error of the job's own work."""

from __future__ import annotations

from portal.errors import PortalError


class JobStopped(Exception):
    """Base of the three below; raised at a safe point of the job's own code."""


class JobCancelled(JobStopped):
    """A person asked for it. Clean up, then end."""


class JobInterrupted(JobStopped):
    """This worker is stopping. Leave outside things as they are: the next attempt adopts them."""


class ClaimLost(JobStopped):
    """Another worker has taken this job over. Touch nothing more."""


class JobNotCancellable(PortalError):
    """The job has already ended."""


class JobNotRetryable(PortalError):
    """Only a failed or cancelled job can be tried again."""


class GaveUp(PortalError):
    """Workers died too often on this job."""
