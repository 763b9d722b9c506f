# SPDX-License-Identifier: GPL-3.0-or-later
"""A VM from a given OVF (ovirt-engine ImportVmFromConfigurationCommand, BackendVmsResource.importVmFromConfiguration)."""

import uuid

from lab.engine.attachments import AttachmentCommands, AttachmentRequest
from lab.engine.core import Core
from lab.engine.faults import EngineFault
from lab.engine.nics import NicCommands
from lab.engine.ovf_reader import BadOvf, OvfNic, OvfVm, read_ovf
from lab.engine.state import Nic, Vm
from lab.engine.vms import VmCommands, VmRequest

IMPORT_SECONDS = 1.0


class ImportCommands:
    def __init__(
        self, core: Core, vms: VmCommands, attachments: AttachmentCommands, nics: NicCommands
    ) -> None:
        self._core = core
        self._vms = vms
        self._attachments = attachments
        self._nics = nics

    async def add(self, request: VmRequest, ovf: str, *, regenerate_ids: bool) -> Vm:
        """Create the VM and attach those disks of the OVF that exist under their old ids.

        `request` overrides the OVF. New ids mean new MAC addresses too. Raises EngineFault."""
        cluster_id = self._vms.cluster_of(request)
        try:
            described = read_ovf(ovf)
        except BadOvf as error:
            # Wording inferred: the engine fails the query that reads the configuration.
            raise EngineFault(
                400, f"[Cannot import VM. The OVF configuration could not be parsed: {error}]"
            ) from error
        name = request.name or described.name
        self._check(described, name, regenerate_ids)
        vm = self._vm(described, name, cluster_id, regenerate_ids)
        request.apply(vm)
        self._core.state.vms[vm.id] = vm
        with self._core.jobs.running(f"Importing VM {vm.name} from configuration"):
            self._add_nics(vm, described, regenerate_ids)
            await self._attach(vm, described)
            vm.status = "image_locked"
            await self._core.clock.pause(IMPORT_SECONDS)
            await self._vms.at("creation", vm)
            vm.status = "down"
        return vm

    def _check(self, described: OvfVm, name: str, regenerate_ids: bool) -> None:
        if not regenerate_ids and described.id in self._core.state.vms:
            other = self._core.state.vms[described.id].name
            raise EngineFault(
                409,
                "[Import VM failed - VM ID already exists in the system. "
                f"Please remove the VM ({other}) from the system first]",
            )
        if self._vms.name_taken(name):
            raise EngineFault(
                409,
                "[Import VM failed - VM Name already exists in the Data Center. "
                "Please rename the VM in the Data Center first]",
            )
        if regenerate_ids:
            return
        used = self._nics.used_macs()
        doubled = sorted(nic.mac for nic in described.nics if nic.mac in used)
        if doubled:
            # Wording inferred.
            raise EngineFault(409, f"[Cannot import VM. MAC addresses already in use: {', '.join(doubled)}]")

    def _vm(self, described: OvfVm, name: str, cluster_id: str, regenerate_ids: bool) -> Vm:
        return Vm(
            id=str(uuid.uuid4()) if regenerate_ids else described.id,
            name=name,
            cluster_id=cluster_id,
            created=self._core.clock.now(),
            snapshot_id=str(uuid.uuid4()),
            memory=described.memory,
            max_memory=described.max_memory,
            memory_guaranteed=described.memory_guaranteed,
            sockets=described.sockets,
            cores=described.cores,
            threads=described.threads,
            os_type=described.os_type,
            vm_type=described.vm_type,
            bios_type=described.bios_type,
            custom_version=described.custom_version,
            stateless=described.stateless,
            delete_protected=described.delete_protected,
            description=described.description,
            comment=described.comment,
        )

    def _add_nics(self, vm: Vm, described: OvfVm, regenerate_ids: bool) -> None:
        for nic in described.nics:
            nic_id = nic.id
            if regenerate_ids or nic_id in self._core.state.nics:
                nic_id = str(uuid.uuid4())
            self._core.state.nics[nic_id] = Nic(
                id=nic_id,
                vm_id=vm.id,
                name=nic.name,
                mac=self._nics.next_mac() if regenerate_ids or not nic.mac else nic.mac,
                vnic_profile_id=self._profile(nic),
                interface=nic.interface,
                linked=nic.linked,
                plugged=nic.plugged,
            )

    def _profile(self, nic: OvfNic) -> str | None:
        """The profile of that name on the network of that name; no such profile means no network."""
        state = self._core.state
        for profile in state.vnic_profiles.values():
            if profile.name == nic.profile and state.networks[profile.network_id].name == nic.network:
                return profile.id
        return None

    async def _attach(self, vm: Vm, described: OvfVm) -> None:
        if not described.disks:
            return
        failed = []
        for disk in described.disks:
            wanted = AttachmentRequest(disk.interface, disk.bootable, disk.active, disk.read_only)
            try:
                await self._attachments.attach(vm, disk.disk_id, wanted)
            except EngineFault:
                failed.append(disk.alias)
        if failed:
            text = (
                f"VM {vm.name} has been imported from the given configuration "
                f"but the following disk(s) failed to attach: {','.join(failed)}."
            )
            self._core.events.add(175, text, "warning", vm_id=vm.id)
        else:
            text = f"VM {vm.name} has been successfully imported from the given configuration."
            self._core.events.add(174, text, vm_id=vm.id)
