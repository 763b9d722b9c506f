# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks on VMs."""

import logging
from dataclasses import dataclass

from lab.engine.core import Core
from lab.engine.disks import DiskCommands, DiskRequest
from lab.engine.faults import EngineFault, EntityMissing, incomplete, locked_disks, not_found_by, refused
from lab.engine.hotplug import HotPlug
from lab.engine.state import Attachment, Disk, Vm

log = logging.getLogger(__name__)

INTERFACES = ("virtio", "virtio_scsi", "ide", "sata", "spapr_vscsi")


@dataclass(frozen=True)
class AttachmentRequest:
    """What a client asks for; None = not said."""

    interface: str | None = None
    bootable: bool | None = None
    active: bool | None = None
    read_only: bool | None = None
    pass_discard: bool | None = None


class AttachmentCommands:
    def __init__(self, core: Core, disks: DiskCommands) -> None:
        self._core = core
        self._disks = disks
        self._hot = HotPlug(core)

    def get(self, vm: Vm, disk_id: str) -> Attachment:
        """Raises EntityMissing."""
        for attachment in self._core.state.attachments_of_vm(vm.id):
            if attachment.disk_id == disk_id:
                return attachment
        raise EntityMissing(disk_id)

    async def attach(self, vm: Vm, disk_id: str, request: AttachmentRequest) -> Attachment:
        """Attach a disk that exists, and plug it. Raises EngineFault, and then nothing is attached; the order of the
        checks follows AttachDiskToVmCommand."""
        disk = self._core.state.disks.get(disk_id)
        if disk is None:
            raise not_found_by("Disk", f"id={disk_id}")
        self._check(vm, disk, request)
        attachment = self._add(vm, disk, request)
        if attachment.active:
            try:
                await self._hot.plug(vm, attachment)
            except EngineFault:
                self._core.state.attachments.remove(attachment)
                raise
        self._core.events.add(
            2016,
            f"Disk {disk.alias} was successfully attached to VM {vm.name} by {self._core.events.user_name}.",
            vm_id=vm.id,
        )
        return attachment

    def create(self, vm: Vm, disk: DiskRequest, request: AttachmentRequest) -> Attachment:
        """Create a disk and attach it in one step; a VM that is up gets it when it has been created (AddDiskCommand)."""
        self._check_vm(vm, request, "add Virtual Disk")
        attachment = self._add(vm, self._disks.add(disk, vm), request)
        if attachment.active and vm.status != "down":
            attachment.active = False
            self._core.spawn(self._plug_when_created(vm, attachment), f"plug disk {attachment.disk_id}")
        return attachment

    async def _plug_when_created(self, vm: Vm, attachment: Attachment) -> None:
        disk = self._core.disk(attachment.disk_id)
        await self._disks.created(disk)
        if attachment in self._core.state.attachments and disk.status == "ok":
            try:
                await self._hot.plug(vm, attachment)
            except EngineFault as error:
                # The event has told; the disk stays attached and unplugged, as in the engine.
                log.info("%s", error)

    def _add(self, vm: Vm, disk: Disk, request: AttachmentRequest) -> Attachment:
        attachment = Attachment(
            vm_id=vm.id,
            disk_id=disk.id,
            interface=request.interface or "virtio",
            bootable=bool(request.bootable),
            # Unsaid means plugged (VmDiskOperationParameterBase); clients are told to say it.
            active=True if request.active is None else request.active,
            read_only=bool(request.read_only),
            pass_discard=bool(request.pass_discard),
        )
        self._core.state.attachments.append(attachment)
        return attachment

    def _check(self, vm: Vm, disk: Disk, request: AttachmentRequest) -> None:
        action = "attach Virtual Disk"
        users = self._core.state.attachments_of_disk(disk.id)
        if any(a.vm_id == vm.id for a in users):
            raise refused(action, "The disk is already attached to VM.")
        if users and not disk.shareable:
            raise refused(action, "The specified disk is not shareable and already attached to a VM.")
        if disk.status == "locked":
            raise locked_disks(action, [disk.alias])
        if self._core.state.open_transfers_of_disk(disk.id):
            raise refused(action, f"Disk {disk.alias} is being transferred.")
        if disk.status == "illegal":
            raise refused(action, f"Disk {disk.alias} is in illegal state.")
        self._check_vm(vm, request, action)

    def _check_vm(self, vm: Vm, request: AttachmentRequest, action: str) -> None:
        if request.interface is None:
            raise incomplete("DiskAttachment", "interface")
        if request.interface not in INTERFACES:
            raise incomplete("DiskAttachment", "interface")
        if request.active is not False:
            self._hot.check(vm, request.interface, action)
        if vm.backup_id is not None:
            raise refused(action, "The VM is during a backup operation.")
        if request.bootable:
            self._check_no_boot_disk(vm, action)

    def _check_no_boot_disk(self, vm: Vm, action: str, but: str | None = None) -> None:
        for other in self._core.state.attachments_of_vm(vm.id):
            if other.bootable and other.disk_id != but:
                alias = self._core.state.disks[other.disk_id].alias
                text = f"VM {vm.name} can only have one bootable disk. Disk {alias} is already bootable."
                raise refused(action, text)

    async def update(self, vm: Vm, attachment: Attachment, request: AttachmentRequest) -> None:
        """Change an attachment; `active` plugs and unplugs (BackendDiskAttachmentResource). Raises EngineFault."""
        self._core.check_not_held(self._core.disk(attachment.disk_id), "edit Virtual Disk")
        if vm.backup_id is not None:
            raise refused("edit Virtual Disk", "The VM is during a backup operation.")
        if request.active is not None and request.active != attachment.active:
            await self._switch(vm, attachment, request.active)
        if request.bootable:
            self._check_no_boot_disk(vm, "edit Virtual Disk", attachment.disk_id)
        attachment.interface = request.interface or attachment.interface
        for name in ("bootable", "read_only", "pass_discard"):
            value = getattr(request, name)
            if value is not None:
                setattr(attachment, name, value)

    async def _switch(self, vm: Vm, attachment: Attachment, active: bool) -> None:
        disk = self._core.disk(attachment.disk_id)
        action = f"{'hot plug' if active else 'hot unplug'} Virtual Disk"
        self._hot.check(vm, attachment.interface, action)
        if disk.status == "locked":
            raise locked_disks(action, [disk.alias])
        if active and self._core.state.open_transfers_of_disk(disk.id):
            raise refused(action, f"Disk {disk.alias} is being transferred.")
        await (self._hot.plug if active else self._hot.unplug)(vm, attachment)
        self._hot.tell(vm, disk, plugged=active)

    async def detach(self, vm: Vm, attachment: Attachment, *, detach_only: bool) -> None:
        """Take the disk off the VM, out of a running one too; with `detach_only` false also remove it.

        Raises EngineFault."""
        disk = self._core.disk(attachment.disk_id)
        self._core.check_not_held(disk, "detach Virtual Disk")
        if vm.backup_id is not None:
            raise refused("detach Virtual Disk", "The VM is during a backup operation.")
        if disk.status == "locked":
            raise locked_disks("detach Virtual Disk", [disk.alias])
        if detach_only and disk.below:
            # DetachDiskFromVmCommand; the end of the sentence is inferred.
            text = "The disk is already configured in a snapshot. To detach it, remove the snapshots."
            raise refused("detach Virtual Disk", text)
        if attachment.active:
            self._hot.check(vm, attachment.interface, "detach Virtual Disk")
        if attachment.active and vm.status != "down":
            await self._hot.unplug(vm, attachment)
        if not detach_only:
            self._disks.remove(disk)
            return
        self._core.state.attachments.remove(attachment)
        self._core.events.add(
            2018,
            f"Disk {disk.alias} was successfully detached from VM {vm.name} by {self._core.events.user_name}.",
            vm_id=vm.id,
        )
