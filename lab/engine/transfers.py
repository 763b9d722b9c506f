# SPDX-License-Identifier: GPL-3.0-or-later
"""Image transfers: what a client may ask for. What then happens is in `transfer_session.py`.

Source: ovirt-engine bll …/storage/disk/image/TransferDiskImageCommand.java, ImageTransferUpdater.java."""

import uuid
from dataclasses import dataclass

from lab.engine.core import Core
from lab.engine.disks import DiskCommands
from lab.engine.faults import EngineFault, incomplete, locked_disks, not_found_by, refused
from lab.engine.state import Backup, Disk, Transfer
from lab.engine.transfer_session import PAUSED, TransferSession

ACTION = "transfer Virtual Disk"
DEFAULT_INACTIVITY_SECONDS = 60
SUCCEEDED_MINUTES = 15
FAILED_MINUTES = 30
ENDING = (
    "finalizing_success",
    "finalizing_failure",
    "finalizing_cleanup",
    "finished_cleanup",
    "cancelled",
    "cancelled_user",
    "cancelled_system",
)
API_STAGES = {
    "CREATING_SCRATCH_DISKS": "initializing",
    "ADDING_BITMAPS": "initializing",
    "WAITING_FOR_BITMAPS": "initializing",
    "REMOVING_SNAPSHOT": "finalizing",
}


@dataclass(frozen=True)
class TransferRequest:
    """`snapshot_id` is a disk snapshot, that is the id of a volume. None = not said."""

    disk_id: str | None
    snapshot_id: str | None
    backup_id: str | None
    direction: str
    format: str | None
    shallow: bool
    inactivity_timeout: int | None
    timeout_policy: str
    host_id: str | None


class TransferCommands:
    def __init__(self, core: Core, disks: DiskCommands) -> None:
        self._core = core
        self._session = TransferSession(core, disks)

    def add(self, request: TransferRequest) -> Transfer:
        """Check and begin; the phases follow by polling. Raises EngineFault."""
        disk = self._source(request)
        backup = self._checked_backup(request, disk)
        frozen = request.snapshot_id is not None and request.snapshot_id != disk.image_id
        if backup is None:
            self._check_disk(disk, frozen=frozen and request.direction == "download")
        if request.shallow and request.direction == "upload":
            # Wording inferred; the model allows `shallow` for downloads in raw format.
            raise refused(ACTION, "Shallow transfer is supported only for download.", 400)
        if request.format not in (None, "raw", disk.format):
            # Wording inferred.
            raise refused(ACTION, "The specified format is not applicable for the disk.", 400)
        if request.host_id is not None and request.host_id not in self._core.state.hosts:
            raise not_found_by("Host", f"id={request.host_id}")
        now = self._core.clock.now()
        transfer = Transfer(
            id=str(uuid.uuid4()),
            disk_id=disk.id,
            disk_alias=disk.alias,
            direction=request.direction,
            format="raw" if backup is not None else request.format,
            backup_id=request.backup_id,
            image_id=request.snapshot_id if frozen else None,
            shallow=request.shallow,
            inactivity_timeout=(
                DEFAULT_INACTIVITY_SECONDS
                if request.inactivity_timeout is None
                else request.inactivity_timeout
            ),
            timeout_policy=request.timeout_policy,
            host_id=request.host_id or self._core.host.id,
            created=now,
            last_updated=now,
        )
        self._core.state.transfers[transfer.id] = transfer
        self._core.spawn(self._session.run(transfer), f"transfer {transfer.id}")
        return transfer

    def _source(self, request: TransferRequest) -> Disk:
        if (request.disk_id is None) == (request.snapshot_id is None):
            raise incomplete("ImageTransfer", "disk|snapshot|image")
        if request.disk_id is not None:
            disk = self._core.state.disks.get(request.disk_id)
            if disk is None:
                raise not_found_by("Disk", f"id={request.disk_id}")
            return disk
        for disk in self._core.state.disks.values():
            if request.snapshot_id in (disk.image_id, *(layer.image_id for layer in disk.below)):
                return disk
        raise not_found_by("DiskSnapshot", f"id={request.snapshot_id}")

    def _checked_backup(self, request: TransferRequest, disk: Disk) -> Backup | None:
        if request.backup_id is None:
            return None
        backup = self._core.state.backups.get(request.backup_id)
        if backup is None:
            raise refused(ACTION, "The specified VM backup does not exist.", 400)
        if backup.stage != "READY":
            phase = API_STAGES.get(backup.stage, backup.stage).upper()
            raise refused(ACTION, f"The VM backup is not in READY phase, backup phase is {phase}.")
        if request.format not in (None, "raw") or request.direction != "download":
            raise refused(ACTION, "The specified format is not applicable for VM backup.", 400)
        if all(member.disk_id != disk.id for member in backup.disks):
            # Wording inferred.
            raise refused(ACTION, f"Disk {disk.alias} is not part of the VM backup.", 400)
        return backup

    def _check_disk(self, disk: Disk, *, frozen: bool) -> None:
        """`frozen`: a volume of a snapshot is read, which a running VM does not write to."""
        self._core.check_not_held(disk, ACTION)
        others = [t for t in self._core.state.open_transfers_of_disk(disk.id) if t.backup_id is None]
        if any(t.upload for t in others):
            raise refused(ACTION, f"Disk {disk.alias} is being transferred.")
        if disk.status == "locked" or others:
            raise locked_disks(ACTION, [disk.alias])
        if disk.status == "illegal":
            text = f"The following attached disks are in ILLEGAL status: {disk.alias}"
            raise refused(ACTION, f"{text} - please remove them and try again.")
        state = self._core.state
        plugged = [state.vms[a.vm_id] for a in state.attachments_of_disk(disk.id) if a.active]
        running = sorted(vm.name for vm in plugged if vm.status != "down")
        if running and not frozen:
            raise refused(ACTION, f"The disk {disk.alias} is plugged to non-Down VMs: {', '.join(running)}")

    def act(self, transfer_id: str, action: str) -> None:
        """`extend`, `pause`, `resume`, `cancel` or `finalize`. An unknown or finished transfer takes all of them in
        silence, but `resume` wants a paused one. Raises EngineFault."""
        transfer = self._core.state.transfers.get(transfer_id)
        if transfer is None:
            return
        if action == "resume" and transfer.phase not in PAUSED:
            raise EngineFault(409, "[Cannot resume image transfer as it's not in a paused state.]")
        if transfer.over or transfer.phase in ENDING:
            return
        if action == "pause" and not transfer.upload:
            raise EngineFault(
                400,
                "[Cannot pause image download as it's handled by the client. "
                "Note that it can be canceled if you wish to stop it.]",
            )
        transfer.last_updated = self._core.clock.now()
        phases = {
            "finalize": "finalizing_success",
            "cancel": "cancelled_user",
            "pause": "paused_user",
            "resume": "resuming",
        }
        transfer.phase = phases.get(action, transfer.phase)
        if action == "pause":
            self._session.event(transfer, 1073, "Upload was paused by user.")
        if action == "resume":
            self._session.event(transfer, 1074, "Upload was resumed by user.")

    def forget_old(self) -> None:
        """Records of finished transfers go after 15 minutes, of failed ones after 30."""
        for transfer in list(self._core.state.transfers.values()):
            minutes = SUCCEEDED_MINUTES if transfer.phase == "finished_success" else FAILED_MINUTES
            old = transfer.over and self._core.clock.older_than(transfer.ended, minutes)
            if old or (transfer.over and self._core.faults.forgets("transfer", transfer.id)):
                del self._core.state.transfers[transfer.id]
