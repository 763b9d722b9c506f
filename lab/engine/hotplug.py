# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks plugged into running VMs and out of them.

Sources: ovirt-engine bll …/storage/disk/{HotPlugDiskToVm,HotUnPlugDiskFromVm,AttachDiskToVm,AddDisk}Command.java; the
wording of the refusals is inferred. In a VM that is down, plugging only changes what the next start takes."""

from lab.engine.core import Core, volume_of
from lab.engine.faults import EngineFault, refused
from lab.engine.state import Attachment, Disk, Vm
from lab.hypervisor import HypervisorError

PLUGGABLE = ("virtio", "virtio_scsi")
RUNNING = ("up", "paused")


class HotPlug:
    def __init__(self, core: Core) -> None:
        self._core = core

    def check(self, vm: Vm, interface: str, action: str) -> None:
        """Raises EngineFault if the VM is on its way between up and down, or up and the interface fixed."""
        if vm.status not in (*RUNNING, "down"):
            text = f"VM {vm.name} is {vm.status.replace('_', ' ')}; it must be up, paused or down."
            raise refused(action, text)
        if vm.status in RUNNING and interface not in PLUGGABLE:
            raise refused(action, f"Hot plugging a disk by the interface {interface} is not supported.")

    async def plug(self, vm: Vm, attachment: Attachment) -> None:
        """The running guest sees the disk. Raises EngineFault, and then it does not."""
        disk = self._core.disk(attachment.disk_id)
        if vm.status in RUNNING:
            try:
                await self._core.hypervisor.plug(vm.id, volume_of(disk))
            except HypervisorError as error:
                self._failed(2001, f"Failed to plug disk {disk.alias} to VM {vm.name}", vm)
                raise EngineFault(400, f"[Failed to plug disk {disk.alias}: {error}]") from error
        attachment.active = True

    async def unplug(self, vm: Vm, attachment: Attachment) -> None:
        """The running guest loses the disk. Raises EngineFault, and then it keeps it."""
        disk = self._core.disk(attachment.disk_id)
        if vm.status in RUNNING:
            try:
                await self._core.hypervisor.unplug(vm.id, disk.id)
            except HypervisorError as error:
                self._failed(2003, f"Failed to unplug disk {disk.alias} from VM {vm.name}", vm)
                raise EngineFault(400, f"[Failed to unplug disk {disk.alias}: {error}]") from error
        attachment.active = False

    def tell(self, vm: Vm, disk: Disk, *, plugged: bool) -> None:
        """USER_HOTPLUG_DISK and USER_HOTUNPLUG_DISK; an attach or a creation that plugs has an event of its own."""
        code, done = (2000, "plugged") if plugged else (2002, "unplugged")
        text = f"VM {vm.name} disk {disk.alias} was {done} by {self._core.events.user_name}."
        self._core.events.add(code, text, vm_id=vm.id)

    def _failed(self, code: int, text: str, vm: Vm) -> None:
        self._core.events.add(code, f"{text} (User: {self._core.events.user_name}).", "error", vm_id=vm.id)
