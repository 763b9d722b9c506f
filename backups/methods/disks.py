# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading the disks of an open backup into a staged restore point."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from django.conf import settings
from django.db import DatabaseError, InterfaceError

from backups.bases import why_not_incremental
from backups.errors import BackupIncomplete
from backups.methods.tickets import ticket_may_end
from backups.models import RestorePoint
from backups.store.errors import PointNotFound, RepositoryMissing, StoreError
from backups.store.index import IndexReader, PartialIndex, chunk_size_for
from backups.store.points import StagedPoint, StoredPoint
from backups.transfer import ImageEndpoint, Progress, TransferStats, backup_full, backup_incremental
from backups.transfer.backup import OnStored
from backups.transfer.errors import DirtyExtentsUnavailable
from portal.errors import PortalError
from portal.ovirt import image_transfer
from portal.ovirt.image_transfer import OpenTransfer, TransferFailed
from portal.ovirt.vm_backup import BackupDisk, CheckpointUnusable

if TYPE_CHECKING:
    from backups.methods.incremental import VmBackup


# Seconds between two notes of what has been stored.
_REMEMBER_SECONDS = 1.0


class Told(TypedDict):
    progress: Progress
    on_stored: OnStored


def read_disks(
    backup: VmBackup, staged: StagedPoint, disks: list[BackupDisk], *, is_open: bool
) -> dict[str, dict[str, Any]]:
    """Read each disk that no earlier attempt has finished. Returns facts by disk id, as the manifest wants them.

    Raises BackupIncomplete if chunks of a finished disk were lost and the backup is no longer open.
    """
    memory = backup.context.memory
    done: dict[str, dict[str, Any]] = dict(memory.get("done") or {})
    base = _open_base(backup)
    for number, disk in enumerate(disks):
        if disk.disk_id in done and _is_still_whole(backup, staged, disk, base):
            continue
        if not is_open:
            backup.context.remember(all_disks_stored=None)
            raise BackupIncomplete(
                "The backup has ended on the Manager, but a part of its data is not stored; it is made anew.",
                hint="Look at the repository's storage: it lost what had been written.",
            )
        title = f"Reading {_alias(backup, disk)}" + (
            f" (disk {number + 1} of {len(disks)})" if len(disks) > 1 else ""
        )
        with backup.context.step(f"disk-{disk.disk_id}", title) as step:
            done[disk.disk_id] = read_disk(backup, staged, disk, base)
            step.detail = done[disk.disk_id]["reason"]
        backup.context.remember(done=done)
    return done


def _is_still_whole(
    backup: VmBackup, staged: StagedPoint, disk: BackupDisk, base: StoredPoint | None
) -> bool:
    """Open again the index that an earlier attempt filled; chunks may be gone after a power cut."""
    with ExitStack() as stack:
        base_index, _ = _base_index(backup, disk, base, stack)
        return _index(backup, staged, disk, base_index).complete


def _index(backup: VmBackup, staged: StagedPoint, disk: BackupDisk, base: IndexReader | None) -> PartialIndex:
    """The disk's index in the making. The base's chunk size is kept, else its chunks could not be reused."""
    chunk_size = base.chunk_size if base else chunk_size_for(disk.size_bytes)
    return staged.disk_index(
        disk.disk_id, disk.size_bytes, chunk_size, source=backup.context.memory["backup_id"]
    )


def _alias(backup: VmBackup, disk: BackupDisk) -> str:
    known = {item["disk_id"]: item["alias"] for item in backup.context.memory["config"]["disks"]}
    return str(known.get(disk.disk_id, disk.disk_id))


def _open_base(backup: VmBackup) -> StoredPoint | None:
    known = backup.context.memory.get("base_point")
    if known is None:
        return None
    try:
        return _find_base(backup, known)
    except StoreError as error:
        backup.context.warn(
            f"The base of this backup could not be opened, so disks are read in full: {error}"
        )
        return None


def _find_base(backup: VmBackup, known: str) -> StoredPoint:
    """The base, also if somebody deleted it meanwhile: it lies in the trash, whole, for longer than a job takes."""
    point = RestorePoint.objects.select_related("vm__environment").get(uuid=known)
    try:
        stored = backup.store.open_ref(replace(point.ref, trashed=False))
    except PointNotFound:
        stored = backup.store.open_ref(replace(point.ref, trashed=True))
    return point.unchanged(stored)


def _index_of_base(backup: VmBackup, base: StoredPoint, disk_id: str) -> IndexReader:
    """Its ids are compared with the manifest's digest: a wrong one would be copied into the new point."""
    try:
        return base.whole_index(disk_id)
    except RepositoryMissing:
        # Moved to the trash since it was opened.
        return _find_base(backup, base.folder.name).whole_index(disk_id)


def read_disk(
    backup: VmBackup, staged: StagedPoint, disk: BackupDisk, base: StoredPoint | None
) -> dict[str, Any]:
    with ExitStack() as stack:
        base_index, reason = _base_index(backup, disk, base, stack)
        index = _index(backup, staged, disk, base_index)
        transfer = _open_transfer(backup, disk)
        endpoint = ImageEndpoint(
            transfer_url=transfer.transfer_url,
            proxy_url=transfer.proxy_url,
            ca_file=_ca_file(backup),
            max_connections=settings.TRANSFER_CONNECTIONS,
        )
        progress = _DiskProgress(backup, disk.disk_id)
        try:
            with progress.stored_is_remembered():
                stats, mode, reason = _transfer(backup, endpoint, index, base_index, reason, progress)
        except TransferFailed:
            _give_up_transfer(backup, disk, transfer)
            raise
    # Every connection is closed by now; only then may the transfer be finalized (traps 8 and 18).
    ending = image_transfer.end_transfer(
        backup.connection,
        transfer.transfer_id,
        pause=backup.context.pause,
        timeout_seconds=settings.MANAGER_PHASE_TIMEOUT,
    )
    if ending == "gone" and not image_transfer.ended_well(backup.connection, disk_id=disk.disk_id):
        raise TransferFailed(
            f"The Manager no longer has the image transfer of {_alias(backup, disk)}, and the disk is not in order.",
            hint="Look at the disk on the Manager: it is illegal or gone.",
        )
    if stats.via == "proxy":
        backup.context.warn(
            "The host could not be reached directly; data went through the Manager's proxy, which is slower. "
            "Let the workers reach port 54322 of the hosts."
        )
    return {
        "mode": mode,
        "reason": reason,
        "bytes_read": stats.bytes_read + progress.read_before,
        "bytes_stored": progress.bytes_stored,
        "dirty_bytes": stats.dirty_bytes if mode == "incremental" else None,
        "chunks_new": progress.chunks_new,
    }


def _give_up_transfer(backup: VmBackup, disk: BackupDisk, transfer: OpenTransfer) -> None:
    """A ticket that was refused once may be refused for long: the next attempt gets a new one."""
    with suppress(PortalError):
        image_transfer.end_transfer(
            backup.connection,
            transfer.transfer_id,
            pause=backup.context.pause,
            timeout_seconds=settings.MANAGER_PHASE_TIMEOUT,
        )
        left = {**(backup.context.memory.get("transfers") or {})}
        left.pop(disk.disk_id, None)
        backup.context.remember(transfers=left)


def _transfer(
    backup: VmBackup,
    endpoint: ImageEndpoint,
    index: PartialIndex,
    base: IndexReader | None,
    reason: str,
    progress: _DiskProgress,
) -> tuple[TransferStats, str, str]:
    """Raises TransferFailed, which may pass, if the Manager has taken the ticket away meanwhile."""
    chunks = backup.store.chunks
    told: Told = {"progress": progress, "on_stored": progress.stored}
    with ticket_may_end():
        if base is None:
            return backup_full(endpoint, index, chunks, **told), "full", reason
        try:
            return backup_incremental(endpoint, index, base, chunks, **told), "incremental", reason
        except DirtyExtentsUnavailable:
            reason = "Full, because the Manager offered no list of changed blocks for this disk."
            return backup_full(endpoint, index, chunks, **told), "full", reason


class _DiskProgress:
    """One disk's bar and sums, which go on where an earlier attempt stopped.

    What became durable is written into the job's memory every second or so: of a killed worker's last second the
    chunks are kept, but not counted.
    """

    def __init__(self, backup: VmBackup, disk_id: str) -> None:
        self._context = backup.context
        self._disk_id = disk_id
        self.read_before = 0
        self._lock = threading.Lock()
        before = (self._context.memory.get("stored") or {}).get(disk_id, [0, 0])
        self.chunks_new, self.bytes_stored = before
        self._remembered = list(before)
        self._remembered_at = time.monotonic()

    def plan(self, bytes_total: int) -> None:
        """`bytes_total` is what is left to read now; the first attempt's figure is that of the whole disk."""
        planned: dict[str, int] = dict(self._context.memory.get("planned") or {})
        whole = max(planned.get(self._disk_id, 0), bytes_total)
        self._context.remember(planned={**planned, self._disk_id: whole})
        self.read_before = whole - bytes_total
        self._context.progress.plan(whole, done_before=self.read_before)

    def advance(self, bytes_done: int) -> None:
        self._context.progress.advance(bytes_done)
        if time.monotonic() - self._remembered_at > _REMEMBER_SECONDS:
            self._remember_stored()

    def stored(self, chunks: int, size: int) -> None:
        """Called by any thread."""
        with self._lock:
            self.chunks_new += chunks
            self.bytes_stored += size

    @contextmanager
    def stored_is_remembered(self) -> Iterator[None]:
        """However the body ends, what it stored is counted; a database that is away does not hide its error."""
        try:
            yield
        except BaseException:
            with suppress(DatabaseError, InterfaceError):
                self._remember_stored()
            raise

    def _remember_stored(self) -> None:
        with self._lock:
            now = [self.chunks_new, self.bytes_stored]
        self._remembered_at = time.monotonic()
        if now != self._remembered:
            self._context.remember(stored={**(self._context.memory.get("stored") or {}), self._disk_id: now})
            self._remembered = now


def _base_index(
    backup: VmBackup, disk: BackupDisk, base: StoredPoint | None, stack: ExitStack
) -> tuple[IndexReader | None, str]:
    """The index to patch, decided by the Manager's backup_mode (trap 3), and the reason in words."""
    if base is None and backup.context.memory.get("base_point"):
        return None, "Full, because the earlier restore point could not be opened."
    reason = str(backup.context.memory["reason"])
    if base is None:
        return None, reason
    if disk.mode != "incremental":
        return None, why_not_incremental(disk.format, disk.size_bytes, in_checkpoint=False, size_before=None)
    try:
        index = stack.enter_context(_index_of_base(backup, base, disk.disk_id))
    except StoreError as error:
        backup.context.warn(f"The base of a disk could not be read, so it is read in full: {error}")
        return None, "Full, because its index in the earlier restore point could not be read."
    changed = why_not_incremental(
        disk.format, disk.size_bytes, in_checkpoint=True, size_before=index.size_bytes
    )
    if changed:
        return None, changed
    return index, reason


def _open_transfer(backup: VmBackup, disk: BackupDisk) -> OpenTransfer:
    """The transfer of an earlier attempt if it is still open, else a new one."""
    context = backup.context
    transfers: dict[str, str] = dict(context.memory.get("transfers") or {})
    known = transfers.get(disk.disk_id)
    if known is not None:
        try:
            return image_transfer.wait_transferring(
                backup.connection,
                known,
                pause=context.pause,
                timeout_seconds=settings.MANAGER_PHASE_TIMEOUT,
            )
        except TransferFailed:
            context.tell("The image transfer of an earlier attempt has ended; opening a new one.")
    elif context.is_resumed:
        for stray in image_transfer.open_transfers_of(
            backup.connection, [disk.disk_id], direction="download"
        ):
            image_transfer.end_transfer(
                backup.connection,
                stray,
                pause=context.pause,
                timeout_seconds=settings.MANAGER_PHASE_TIMEOUT,
            )

    def created(transfer_id: str) -> None:
        context.remember(transfers={**transfers, disk.disk_id: transfer_id})

    try:
        return image_transfer.open_transfer(
            backup.connection,
            disk_id=disk.disk_id,
            direction="download",
            backup_id=context.memory["backup_id"],
            on_created=created,
            pause=context.pause,
            timeout_seconds=settings.MANAGER_PHASE_TIMEOUT,
        )
    except TransferFailed as error:
        if disk.mode != "incremental" or backup.is_live:
            raise
        # A backup that is read from images meets a broken bitmap only here (trap 7); any other trouble may pass.
        if _opened_before(backup, disk):
            raise CheckpointUnusable(
                f"The Manager could not open the list of changed blocks of {_alias(backup, disk)}."
            ) from error
        context.tell(f"{error.message} Trying once more.", level="warning")
        return _open_transfer(backup, disk)


def _opened_before(backup: VmBackup, disk: BackupDisk) -> bool:
    """Whether opening this disk has failed in this backup before; remembered."""
    context = backup.context
    tried = [context.memory["backup_id"], disk.disk_id]
    if context.memory.get("not_opened") == tried:
        return True
    context.remember(not_opened=tried)
    return False


def _ca_file(backup: VmBackup) -> Path | None:
    return backup.vm.environment.address().ca_file()
