# SPDX-License-Identifier: GPL-3.0-or-later
"""Making a machine from a stored one: disks, the VM from its OVF, attachments, NICs (reference 4.6, 6.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ovirtsdk4 as sdk
from ovirtsdk4 import types

from portal.errors import PortalError
from portal.ovirt.connection import Pause, wait_until
from portal.ovirt.errors import ManagerBusy, ManagerObjectMissing, ManagerRefused, calling
from portal.ovirt.inventory import DiskFacts, disk_facts

MAX_VM_NAME = 255


class DiskUnusable(PortalError):
    """A disk made for a restore did not become usable."""

    retryable = True


class MachineGone(PortalError):
    """The Manager took a machine away again while it was creating it."""

    retryable = True


class NameTaken(PortalError):
    """A machine of that name exists already."""


class MadeUnseen(PortalError):
    """Something that was made exists on the Manager, but the portal's account cannot see it: 404 is not "gone"."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"The Manager has {what}, which this restore made, but the portal's account cannot see it: it could "
            "neither be finished nor removed.",
            hint="Give the account a role that sees what it makes, remove that by hand on the Manager, restore again.",
        )


@dataclass(frozen=True)
class NewDisk:
    """`disk_id` is chosen by us, so that a lost answer loses nothing. `initial_bytes`: what a thin disk on block
    storage must have room for from the start, None elsewhere (reference 4.6)."""

    disk_id: str
    alias: str
    description: str
    size_bytes: int
    initial_bytes: int | None
    format: str
    sparse: bool
    incremental: bool
    storage_domain_id: str
    interface: str
    bootable: bool
    active: bool
    read_only: bool
    wipe_after_delete: bool


def ensure_disk(connection: sdk.Connection, disk: NewDisk, *, pause: Pause, timeout_seconds: float) -> None:
    """Create the floating disk unless it is already there, and wait until it is `ok`. Raises DiskUnusable.

    One that has become `illegal` (an upload failed) is made anew: it is this job's own, and empty.
    """
    status = disk_status(connection, disk.disk_id)
    if status == "illegal":
        remove_disk(connection, disk.disk_id, pause=pause, timeout_seconds=timeout_seconds)
        status = None
    if status is None:
        _create_disk(connection, disk)

    def look() -> bool | None:
        status = disk_status(connection, disk.disk_id)
        if status == "ok":
            return True
        if status is None or status == "illegal":
            raise DiskUnusable(
                f"The Manager did not create the disk {disk.alias}: it is {status or 'gone'}.",
                hint="Look at the storage domain's space and the Manager's events, then try again.",
            )
        return None

    wait_until(look, what=f"create the disk {disk.alias}", pause=pause, timeout_seconds=timeout_seconds)


def _create_disk(connection: sdk.Connection, disk: NewDisk) -> None:
    order = types.Disk(
        id=disk.disk_id,
        name=disk.alias,
        description=disk.description,
        format=types.DiskFormat(disk.format),
        sparse=disk.sparse,
        provisioned_size=disk.size_bytes,
        initial_size=disk.initial_bytes,
        backup=types.DiskBackup.INCREMENTAL if disk.incremental else types.DiskBackup.NONE,
        wipe_after_delete=disk.wipe_after_delete,
        storage_domains=[types.StorageDomain(id=disk.storage_domain_id)],
    )
    try:
        with calling(f"create the disk {disk.alias}"):
            connection.system_service().disks_service().add(order)
    except ManagerBusy as error:
        # Its id is taken, if this was the repetition of a request whose answer was lost.
        if disk_status(connection, disk.disk_id) is None:
            if "already used" in error.detail:
                raise MadeUnseen(f"the disk {disk.alias} ({disk.disk_id})") from error
            raise


def disk_status(connection: sdk.Connection, disk_id: str) -> str | None:
    """`ok`, `locked`, `illegal`; None if there is no such disk."""
    try:
        with calling("tell about a disk"):
            disk = connection.system_service().disks_service().disk_service(disk_id).get()
    except ManagerObjectMissing:
        return None
    return getattr(disk.status, "value", None) or "locked"


def keeps_disk(connection: sdk.Connection, disk_id: str, *, pause: Pause, timeout_seconds: float) -> bool:
    """Whether an uploaded disk is (still) good: `ok` is well, `illegal` or gone is not.

    A disk that is still locked is waited for. Engines before 4.4.7 have no other word on an upload's end (reference 4.3).
    """

    def look() -> str | None:
        status = disk_status(connection, disk_id) or "gone"
        return None if status == "locked" else status

    return (
        wait_until(look, what="release the uploaded disk", pause=pause, timeout_seconds=timeout_seconds)
        == "ok"
    )


def remove_disk(connection: sdk.Connection, disk_id: str, *, pause: Pause, timeout_seconds: float) -> None:
    """Delete a disk that this job made. Safe to repeat."""

    def look() -> bool | None:
        if disk_status(connection, disk_id) is None:
            return True
        try:
            with calling("delete a disk"):
                connection.system_service().disks_service().disk_service(disk_id).remove()
        except (ManagerBusy, ManagerObjectMissing):
            return None  # still locked by the transfer that is ending
        return None

    wait_until(look, what="delete the disk", pause=pause, timeout_seconds=timeout_seconds)


def find_vm(connection: sdk.Connection, name: str) -> types.Vm | None:
    """By exact name; the search's wildcards and quoting are not trusted."""
    with calling("look for a machine"):
        quoted = name.replace("\\", "").replace('"', "")
        found = (
            connection.system_service()
            .vms_service()
            .list(search=f'name="{quoted}"', case_sensitive=True, max=50)
        )
    return next((vm for vm in found if vm.name == name), None)


def read_vm(connection: sdk.Connection, vm_id: str) -> types.Vm | None:
    """None if there is no such machine (any more)."""
    try:
        with calling("tell about a machine"):
            return connection.system_service().vms_service().vm_service(vm_id).get()
    except ManagerObjectMissing:
        return None


def import_vm(
    connection: sdk.Connection, *, name: str, cluster_id: str, ovf: str, comment: str, new_macs: bool
) -> str:
    """A VM without disks from its OVF; returns its id. Raises NameTaken or ManagerError.

    With `new_macs` ids and MAC addresses are made anew (regenerate_ids does both, reference 6.7).
    """
    order = types.Vm(
        name=name,
        comment=comment,
        cluster=types.Cluster(id=cluster_id),
        initialization=types.Initialization(
            configuration=types.Configuration(type=types.ConfigurationType.OVF, data=ovf),
            regenerate_ids=new_macs,
        ),
    )
    try:
        with calling(f"create the machine {name}"):
            vm = connection.system_service().vms_service().add(order)
    except ManagerRefused as error:
        if "Name already exists" in error.detail:
            raise NameTaken(
                f"A machine called {name} exists already; nothing was changed.", hint="Choose another name."
            ) from error
        raise
    return str(vm.id)


def wait_down(connection: sdk.Connection, vm_id: str, *, pause: Pause, timeout_seconds: float) -> None:
    """Until the Manager has finished creating the machine. Raises MachineGone."""

    def look() -> bool | None:
        vm = read_vm(connection, vm_id)
        if vm is None:
            raise MachineGone(
                "The Manager began to create the machine, but did not keep it.",
                hint="Look at the Manager's events for the machine, then try again.",
            )
        return True if vm.status == types.VmStatus.DOWN else None

    wait_until(look, what="finish creating the machine", pause=pause, timeout_seconds=timeout_seconds)


def attached_disks(connection: sdk.Connection, vm_id: str) -> list[DiskFacts]:
    with calling("list the new machine's disks"):
        service = connection.system_service().vms_service().vm_service(vm_id).disk_attachments_service()
        return [disk_facts(item) for item in service.list(follow="disk")]


def is_attached(connection: sdk.Connection, vm_id: str, disk_id: str) -> bool:
    return any(item.disk_id == disk_id for item in attached_disks(connection, vm_id))


def attach_disks(connection: sdk.Connection, vm_id: str, disks: Sequence[NewDisk], *, pause: Pause) -> None:
    """Attach each disk that is not attached yet. Safe to repeat."""
    present = {item.disk_id for item in attached_disks(connection, vm_id)}
    service = connection.system_service().vms_service().vm_service(vm_id).disk_attachments_service()
    for disk in disks:
        if disk.disk_id in present:
            continue
        order = types.DiskAttachment(
            disk=types.Disk(id=disk.disk_id),
            interface=types.DiskInterface(disk.interface or "virtio_scsi"),
            bootable=disk.bootable,
            active=disk.active,
            read_only=disk.read_only,
        )

        def attach(
            order: types.DiskAttachment = order, alias: str = disk.alias, disk_id: str = disk.disk_id
        ) -> bool | None:
            try:
                with calling(f"attach the disk {alias}"):
                    service.add(order)
            except ManagerRefused as error:
                if error.http_status == 409 and "locked" in error.detail.lower():
                    return None  # the lock of the upload goes last (trap 29)
                if not is_attached(connection, vm_id, disk_id):
                    raise  # else it was the repetition of a request whose answer was lost
            return True

        wait_until(attach, what=f"attach the disk {disk.alias}", pause=pause, timeout_seconds=120)


def unplug_nics(connection: sdk.Connection, vm_id: str) -> list[str]:
    """Unplug whatever is plugged; returns the names of all NICs."""
    service = connection.system_service().vms_service().vm_service(vm_id).nics_service()
    with calling("list the new machine's network interfaces"):
        nics = service.list()
    for nic in nics:
        if nic.plugged:
            with calling(f"unplug the network interface {nic.name}"):
                service.nic_service(nic.id).update(types.Nic(plugged=False))
    return [nic.name or "" for nic in nics]


def remove_vm(connection: sdk.Connection, vm_id: str, *, pause: Pause, timeout_seconds: float) -> None:
    """Delete a VM that this job made. Its disks stay: some of them may be others' by now. Safe to repeat."""
    service = connection.system_service().vms_service().vm_service(vm_id)

    def look() -> bool | None:
        try:
            with calling("tell about the machine"):
                service.get()
            with calling("delete the machine"):
                service.remove(detach_only=True)
        except ManagerObjectMissing:
            return True
        except ManagerBusy:
            return None
        return None

    wait_until(look, what="delete the machine", pause=pause, timeout_seconds=timeout_seconds)
