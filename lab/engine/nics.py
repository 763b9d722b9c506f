# SPDX-License-Identifier: GPL-3.0-or-later
"""Network interfaces of VMs and the pool their MAC addresses come from."""

import re
import uuid
from dataclasses import dataclass

from lab.engine.core import Core
from lab.engine.faults import EngineFault, EntityMissing, incomplete, not_found_by, refused
from lab.engine.state import Nic, Vm

# Prefix as in the engine's default pool.
POOL_PREFIX = (0x56, 0x6F)
MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


@dataclass(frozen=True)
class NicRequest:
    """What a client asks for; None = not said. An empty `vnic_profile_id` takes the profile away."""

    name: str | None = None
    mac: str | None = None
    interface: str | None = None
    linked: bool | None = None
    plugged: bool | None = None
    vnic_profile_id: str | None = None


class NicCommands:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._last = 0

    def get(self, vm: Vm, nic_id: str) -> Nic:
        """Raises EntityMissing."""
        nic = self._core.state.nics.get(nic_id)
        if nic is None or nic.vm_id != vm.id:
            raise EntityMissing(nic_id)
        return nic

    def next_mac(self) -> str:
        used = self.used_macs()
        while True:
            self._last += 1
            tail = self._last.to_bytes(4, "big")
            mac = ":".join(f"{byte:02x}" for byte in (*POOL_PREFIX, *tail))
            if mac not in used:
                return mac

    def used_macs(self) -> set[str]:
        return {nic.mac for nic in self._core.state.nics.values()}

    def add(self, vm: Vm, request: NicRequest) -> Nic:
        """Raises EngineFault."""
        if not request.name:
            raise incomplete("Nic", "name")
        self._check_name(vm, request.name, "add Network Interface")
        profile = self._profile(request)
        nic = Nic(
            id=str(uuid.uuid4()),
            vm_id=vm.id,
            name=request.name,
            mac=self._checked_mac(request.mac, "add Network Interface") if request.mac else self.next_mac(),
            vnic_profile_id=profile,
            interface=request.interface or "virtio",
            linked=True if request.linked is None else request.linked,
            plugged=True if request.plugged is None else request.plugged,
        )
        self._core.state.nics[nic.id] = nic
        self._core.events.add(
            932,
            f"Interface {nic.name} ({nic.interface}) was added to VM {vm.name}. "
            f"(User: {self._core.events.user_name})",
            vm_id=vm.id,
        )
        return nic

    def update(self, vm: Vm, nic: Nic, request: NicRequest) -> None:
        """Raises EngineFault."""
        if request.name is not None and request.name != nic.name:
            self._check_name(vm, request.name, "edit Network Interface")
            nic.name = request.name
        if request.mac is not None and request.mac.lower() != nic.mac:
            nic.mac = self._checked_mac(request.mac, "edit Network Interface")
        if request.vnic_profile_id is not None:
            nic.vnic_profile_id = self._profile(request)
        nic.interface = request.interface or nic.interface
        nic.linked = nic.linked if request.linked is None else request.linked
        nic.plugged = nic.plugged if request.plugged is None else request.plugged
        self._core.events.add(
            934,
            f"Interface {nic.name} ({nic.interface}) was updated for VM {vm.name}. "
            f"(User: {self._core.events.user_name})",
            vm_id=vm.id,
        )

    def remove(self, vm: Vm, nic: Nic) -> None:
        """Raises EngineFault while it is plugged to a running VM."""
        if nic.plugged and vm.status != "down":
            raise refused(
                "remove Network Interface",
                "VM Network Interface is plugged to a running VM. Please unplug it first.",
            )
        del self._core.state.nics[nic.id]
        self._core.events.add(
            930,
            f"Interface {nic.name} ({nic.interface}) was removed from VM {vm.name}. "
            f"(User: {self._core.events.user_name})",
            vm_id=vm.id,
        )

    def _profile(self, request: NicRequest) -> str | None:
        if not request.vnic_profile_id:
            return None
        if request.vnic_profile_id not in self._core.state.vnic_profiles:
            raise not_found_by("VnicProfile", f"id={request.vnic_profile_id}")
        return request.vnic_profile_id

    def _check_name(self, vm: Vm, name: str, action: str) -> None:
        if any(nic.name == name for nic in self._core.state.nics_of_vm(vm.id)):
            raise refused(action, f"The network interface name {name} is already in use.")

    def _checked_mac(self, mac: str, action: str) -> str:
        mac = mac.lower()
        if not MAC.fullmatch(mac) or int(mac[:2], 16) & 1:
            raise EngineFault(400, f"[Cannot {action}. Invalid MAC address: {mac}]")
        if mac in self.used_macs():
            raise refused(action, f"MAC Address {mac} is already in use.")
        return mac
