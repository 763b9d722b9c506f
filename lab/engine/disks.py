# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks: create, change, remove. Each has one volume, a file `<domain>/<disk id>/<volume id>`."""

import asyncio
import shutil
import uuid
from dataclasses import dataclass

from lab.engine.core import Core, volume_of
from lab.engine.faults import EngineFault, incomplete, locked_disks, not_found_by, refused
from lab.engine.people import grant_new_disk
from lab.engine.state import Attachment, Disk, StorageDomain, Vm
from lab.hypervisor import HypervisorError
from lab.processes import CommandFailed

CREATION_SECONDS = 1.0
INCREMENTAL_NEEDS_COW = "Incremental backup is not supported for RAW format disks."


@dataclass(frozen=True)
class DiskRequest:
    """What a client asks for; None = not said. Sizes in bytes."""

    id: str | None = None
    image_id: str | None = None
    alias: str | None = None
    description: str | None = None
    format: str | None = None
    provisioned_size: int | None = None
    sparse: bool | None = None
    backup: str | None = None
    content_type: str | None = None
    shareable: bool | None = None
    wipe_after_delete: bool | None = None
    propagate_errors: bool | None = None
    initial_size: int | None = None
    storage_domain_id: str | None = None
    storage_domain_name: str | None = None


class DiskCommands:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._creations: dict[str, asyncio.Task[None]] = {}

    def add(self, request: DiskRequest, vm: Vm | None = None) -> Disk:
        """Check the request and start the creation; the disk is `locked` until its file exists.

        Raises EngineFault. Combinations of format, allocation and backup as the engine's AddDiskCommand allows."""
        domain = self._domain(request)
        if self._core.faults.fills(domain.id, domain.name):
            # StorageDomainValidator, isDomainWithinThresholds(); that it is a conflict is inferred.
            raise refused("add Virtual Disk", f"Low disk space on Storage Domain {domain.name}.")
        if request.provisioned_size is None or request.format is None:
            raise incomplete("Disk", "provisionedSize, format")
        if request.provisioned_size <= 0:
            raise refused("add Virtual Disk", "Disk size must be greater than 0.", 400)
        disk_id = request.id or str(uuid.uuid4())
        if disk_id in self._core.state.disks:
            other = self._core.state.disks[disk_id].alias
            raise refused(
                "add Virtual Disk", f"The selected disk ID: {disk_id} is already used by disk {other}."
            )
        disk = self._disk(request, disk_id, domain)
        _check_combination(disk)
        self._core.state.disks[disk.id] = disk
        grant_new_disk(self._core.state, disk.id, self._core.events.user_id)
        task = self._core.spawn(self._create(disk, vm), f"create disk {disk.id}")
        self._creations[disk.id] = task
        task.add_done_callback(lambda _: self._creations.pop(disk.id, None))
        return disk

    async def created(self, disk: Disk) -> None:
        """Wait until the creation of the disk has ended, well or not."""
        if task := self._creations.get(disk.id):
            await asyncio.wait({task})

    def _disk(self, request: DiskRequest, disk_id: str, domain: StorageDomain) -> Disk:
        image_id = request.image_id or str(uuid.uuid4())
        assert request.format is not None and request.provisioned_size is not None
        return Disk(
            id=disk_id,
            alias=request.alias or f"disk-{disk_id[:8]}",
            format=request.format,
            provisioned_size=request.provisioned_size,
            sparse=True if request.sparse is None else request.sparse,
            storage_domain_id=domain.id,
            image_id=image_id,
            path=domain.directory / disk_id / image_id,
            created=self._core.clock.now(),
            description=request.description or "",
            backup=request.backup or "none",
            status="locked",
            content_type=request.content_type or "data",
            shareable=bool(request.shareable),
            wipe_after_delete=bool(request.wipe_after_delete),
            propagate_errors=bool(request.propagate_errors),
            initial_size=request.initial_size,
        )

    def _domain(self, request: DiskRequest) -> StorageDomain:
        domains = self._core.state.storage_domains
        if request.storage_domain_id is not None:
            domain = domains.get(request.storage_domain_id)
            if domain is None:
                raise not_found_by("StorageDomain", f"id={request.storage_domain_id}")
            return domain
        if request.storage_domain_name is None:
            raise incomplete("Disk", "storageDomains.storageDomains.id|name")
        for domain in domains.values():
            if domain.name == request.storage_domain_name:
                return domain
        raise not_found_by("StorageDomain", f"name={request.storage_domain_name}")

    async def _create(self, disk: Disk, vm: Vm | None) -> None:
        add = self._core.events.add
        user = self._core.events.user_name
        if vm is None:
            add(2020, f"Add-Disk operation of '{disk.alias}' was initiated by {user}.")
        else:
            add(
                78,
                f"Add-Disk operation of {disk.alias} was initiated on VM {vm.name} by {user}.",
                vm_id=vm.id,
            )
        try:
            with self._core.jobs.running(f"Creating Virtual Disk {disk.alias}"):
                disk.path.parent.mkdir(parents=True, exist_ok=True)
                await self._core.hypervisor.create_volume(volume_of(disk))
                await self._core.clock.pause(CREATION_SECONDS)
                await self._at("creation", disk, vm)
        except (HypervisorError, CommandFailed, OSError):
            self._forget(disk)
            add(2022, "Operation Add-Disk failed to complete.", "error", vm_id=vm.id if vm else None)
            return
        disk.status = "ok"
        if vm is None:
            add(2021, f"The disk '{disk.alias}' was successfully added.")
        else:
            add(97, f"The disk {disk.alias} was successfully added to VM {vm.name}.", vm_id=vm.id)

    async def _at(self, phase: str, disk: Disk, vm: Vm | None = None) -> None:
        names = (disk.id, disk.alias, vm.id if vm else None, vm.name if vm else None)
        await self._core.faults.at("disk", phase, HypervisorError(f"{phase} was made to fail"), *names)

    async def update(self, disk: Disk, request: DiskRequest) -> None:
        """Change what may be changed of an existing disk. Raises EngineFault."""
        self._core.check_not_held(disk, "edit Virtual Disk")
        if disk.status == "locked":
            raise locked_disks("edit Virtual Disk", [disk.alias])
        if request.backup == "incremental" and disk.format == "raw":
            raise refused("edit Virtual Disk", INCREMENTAL_NEEDS_COW, 400)
        size = request.provisioned_size
        if size is not None and size < disk.provisioned_size:
            # Wording inferred; the engine refuses to shrink.
            raise refused(
                "edit Virtual Disk", "The new disk size must not be smaller than the current one.", 400
            )
        if size is not None and size > disk.provisioned_size:
            await self._extend(disk, size)
        disk.alias = request.alias or disk.alias
        disk.description = disk.description if request.description is None else request.description
        disk.backup = request.backup or disk.backup
        if request.wipe_after_delete is not None:
            disk.wipe_after_delete = request.wipe_after_delete
        if request.shareable is not None:
            disk.shareable = request.shareable

    async def _extend(self, disk: Disk, size: int) -> None:
        if any(self._core.hypervisor.is_running(a.vm_id) for a in self._users(disk)):
            raise refused("edit Virtual Disk", "At least one of the VMs is not down.")
        form = "qcow2" if disk.format == "cow" else "raw"
        disk.status = "locked"
        try:
            await self._core.processes.run("qemu-img", "resize", "-f", form, str(disk.path), str(size))
        except CommandFailed as error:
            raise EngineFault(500, f"[{error}]") from error
        finally:
            disk.status = "ok"
        disk.provisioned_size = size

    def _users(self, disk: Disk) -> list[Attachment]:
        return [a for a in self._core.state.attachments_of_disk(disk.id) if a.active]

    def remove(self, disk: Disk) -> None:
        """Start the removal. Refused while locked, in a transfer, or plugged to a VM that is not down."""
        self._core.check_not_held(disk, "remove Virtual Disk")
        if disk.status == "locked":
            raise locked_disks("remove Virtual Disk", [disk.alias])
        state = self._core.state
        if state.open_transfers_of_disk(disk.id):
            raise refused("remove Virtual Disk", f"Disk {disk.alias} is being transferred.")
        for attachment in self._users(disk):
            if state.vms[attachment.vm_id].status != "down":
                raise refused("remove Virtual Disk", "At least one of the VMs is not down.")
        disk.status = "locked"
        self._core.spawn(self._remove(disk), f"remove disk {disk.id}")

    async def _remove(self, disk: Disk) -> None:
        domain = self._core.state.storage_domains[disk.storage_domain_id].name
        try:
            with self._core.jobs.running(f"Removing Disk {disk.alias} From System"):
                await self._core.clock.pause(CREATION_SECONDS)
                await self._at("removal", disk)
                await self.destroy(disk)
        except HypervisorError:
            disk.status = "illegal"
            user = self._core.events.user_name
            text = f"Failed to remove disk {disk.alias} from storage domain {domain} (User {user})."
            self._core.events.add(2015, text, "error", storage_domain_id=disk.storage_domain_id)
            return
        self._core.events.add(
            2014,
            f"Disk {disk.alias} was successfully removed from domain {domain} "
            f"(User {self._core.events.user_name}).",
            storage_domain_id=disk.storage_domain_id,
        )

    async def destroy(self, disk: Disk) -> None:
        """Remove the volume and the disk with its attachments, at once and without questions."""
        await self._core.hypervisor.delete_volume(volume_of(disk))
        self._forget(disk)

    def _forget(self, disk: Disk) -> None:
        shutil.rmtree(disk.path.parent, ignore_errors=True)
        state = self._core.state
        state.disks.pop(disk.id, None)
        state.forget_permissions_on(disk.id)
        state.attachments = [a for a in state.attachments if a.disk_id != disk.id]


def _check_combination(disk: Disk) -> None:
    if disk.format not in ("raw", "cow"):
        raise EngineFault(400, f"Invalid value for format: {disk.format}", "Invalid value")
    if disk.format == "raw" and disk.backup == "incremental":
        raise refused("add Virtual Disk", INCREMENTAL_NEEDS_COW, 400)
    if disk.format == "cow" and not disk.sparse and disk.backup != "incremental":
        raise refused(
            "add Virtual Disk",
            "Disk configuration (COW Preallocated backup-None) is incompatible with the storage domain type.",
        )
