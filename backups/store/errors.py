# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong with a repository, each with the next thing to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from portal.errors import PortalError


class StoreError(PortalError):
    """Something about a repository; the subclasses say what."""


class RepositoryMissing(StoreError):
    """The folder holds no repository: empty, not mounted, or not there. It is never filled."""

    retryable = True  # a share may be mounted again


class RepositoryMismatch(StoreError):
    """The folder holds another repository than the one asked for."""


class RepositoryUnsupported(StoreError):
    """The repository was written by something newer, or needs a feature that is unknown here."""


class RepositoryFull(StoreError):
    """The file system or the quota is used up (ENOSPC, EDQUOT)."""

    retryable = True


class RepositoryBusy(StoreError):
    """Somebody else holds the lease of the repository's garbage collection."""

    retryable = True


class ClaimLost(StoreError):
    """Another worker has taken the job over, so this one published nothing."""


class ChunkMissing(StoreError):
    """No file bears this chunk's name."""

    def __init__(self, chunk_id: str) -> None:
        super().__init__(
            f"Chunk {chunk_id} is missing from the repository.",
            hint="Points that list it cannot be restored whole; the next backup of the disk stores it again.",
        )
        self.chunk_id = chunk_id


class ChunkCorrupt(StoreError):
    """A chunk's content does not have the SHA-256 that its name promises, or cannot be decompressed."""

    def __init__(self, chunk_id: str, reason: str) -> None:
        super().__init__(
            f"Chunk {chunk_id} is damaged: {reason}.",
            hint="Verify the repository to set damaged chunks aside; the next backup stores them again.",
        )
        self.chunk_id = chunk_id


class IndexCorrupt(StoreError):
    """An index file breaks the format."""


class PointExists(StoreError):
    """The restore point is published already; published points never change."""


class PointIncomplete(StoreError):
    """A restore point cannot be published: an index still has gaps."""


class PointCorrupt(StoreError):
    """A restore point's manifest, or a file that it lists, is not as it should be."""


class PointNotFound(StoreError):
    """No published restore point of that name."""

    status = 404


class PointHeld(StoreError):
    """A legal hold lies on the restore point: it is neither deleted nor purged."""


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
GONE = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE, errno.ENODEV, errno.ENOTCONN, errno.EHOSTDOWN)


@contextmanager
def storage_errors(doing: str) -> Iterator[None]:
    """Turn OSError raised inside into StoreError; `doing` is a phrase such as `writing a chunk`."""
    try:
        yield
    except OSError as error:
        raise translated(error, doing) from error


def translated(error: OSError, doing: str) -> StoreError:
    """The StoreError that tells of `error`, met while `doing`."""
    if error.errno in FULL:
        return RepositoryFull(
            f"No space is left in the repository while {doing}.",
            hint="Free space or raise the quota, then retry: chunks that are stored already are kept.",
        )
    if error.errno in GONE:
        return RepositoryMissing(
            f"A file of the repository is gone while {doing}: {error.strerror}.",
            hint="Look whether the share is mounted, then retry.",
        )
    return StoreError(
        f"The repository's storage failed while {doing}: {error.strerror or error}.",
        hint="Look at the storage and its log, then retry.",
        retryable=True,
    )
