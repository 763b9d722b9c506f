# SPDX-License-Identifier: GPL-3.0-or-later
"""Restore a point as a new VM (guide 3.2.5.1.2; reference 4.6, 4.7, 6.5).

New disks with new ids, data by parallel uploads, equality proven by imageio's checksum against the index's
digest, the VM from the stored OVF without its disks, network unplugged and MAC addresses new by default.
"""

from __future__ import annotations

import logging
import time
import uuid
from typing import Any

import ovirtsdk4 as sdk
from django.conf import settings
from django.utils import timezone

from backups.methods.incremental import connected
from backups.methods.tickets import ticket_may_end
from backups.store.errors import ChunkMissing, StoreError
from backups.store.points import StoredPoint
from backups.transfer import ImageEndpoint, checksum
from backups.transfer import restore as write_disk
from backups.transfer.errors import TransferBroken
from portal.environments.models import VirtualMachine
from portal.errors import PortalError
from portal.jobs import runner
from portal.jobs.context import JobContext
from portal.jobs.errors import ClaimLost
from portal.jobs.models import Job
from portal.jobs.states import JobState
from portal.ovirt import image_transfer, new_vm, ovf
from portal.ovirt.image_transfer import OpenTransfer, TransferFailed
from portal.ovirt.new_vm import MachineGone, MadeUnseen, NameTaken, NewDisk
from restores import approvals, world
from restores.errors import RestoreNotEqual
from restores.methods.leftovers import KEYS, LEFT, Leftovers
from restores.methods.same_people import SamePeople
from restores.models import Restore
from restores.plans import BLOCK_STORAGE
from restores.records import restore_of

log = logging.getLogger(__name__)


def run(context: JobContext) -> None:
    restore = restore_of(context.job)
    vm = restore.point.vm
    try:
        try:
            stored = restore.point.open()
        except StoreError as error:
            if not context.will_try_again(error):
                _clean_up_without_point(context, vm)
            raise
        with connected(context, vm) as connection:
            _restore(NewVmRestore(context, restore, stored, connection))
    except BaseException as error:
        if isinstance(error, MadeUnseen):
            context.warn(error.message)
        left = context.memory.get("disk_ids")
        if left and not context.will_try_again(error):
            context.warn(
                f"{LEFT}. The portal goes on trying; what is left are the disks {', '.join(left.values())} and "
                f"perhaps a machine {restore.target_name} with this job's number in its comment."
            )
        raise


def _clean_up_without_point(context: JobContext, vm: VirtualMachine) -> None:
    """The repository is away for good: at least the Manager is left clean. Never hides the first error."""
    if not context.memory.get("disk_ids"):
        return
    try:
        with connected(context, vm) as connection:
            clean_up(context, Leftovers(context.job, connection))
    except PortalError as error:
        log.warning("Clean-up without the repository: %s", error)


def clean_up(context: JobContext, leftovers: Leftovers) -> None:
    """Remove what this job made: its machine, its uploads, its disks. Never hides the first error.

    What could not be removed stays in the job's memory: `run` names it, and restores.sweep goes on.
    """
    if not context.memory.get("disk_ids"):
        return
    with context.cleaning():
        try:
            leftovers.remove(pause=context.pause, timeout_seconds=settings.MANAGER_PHASE_TIMEOUT)
            context.remember(**dict.fromkeys(KEYS))
        except ClaimLost:
            raise
        except Exception as error:
            log.warning("Clean-up: %s", error, exc_info=not isinstance(error, PortalError))
            if isinstance(error, PortalError):
                context.tell(f"Cleaning up failed: {error.message}", level="warning")


def _restore(work: NewVmRestore) -> None:
    context = work.context
    try:
        if context.giving_up:
            raise runner.give_up(context)
        with context.step("prepare", "Checking the Manager against the plan"):
            work.check_plan()
            disks = work.plan_disks()
            machine = work.machine_description()
            work.check_name()
        with context.step("disks", "Creating the disks"):
            work.adopt_uploads(disks)
            for source_id, disk in disks.items():
                work.ensure_written_or_empty_disk(source_id, disk)
        work.write_disks(disks)
        with context.step("machine", f"Creating the machine {work.restore.target_name}"):
            vm_id = work.ensure_machine(machine)
        with context.step("attach", "Attaching the disks and unplugging the network"):
            work.finish_machine(vm_id, list(disks.values()))
        if work.plan.get("same_people"):
            with context.step("people", "Giving the same people the same rights"):
                SamePeople(context, work.restore, work.connection, vm_id).give()
        work.tell_result(vm_id)
    except ClaimLost:
        work.remove_if_ended()
        raise
    except BaseException as error:
        if not context.will_try_again(error):
            clean_up(context, work.leftovers)
        raise


class NewVmRestore:
    """One restore: what is known of it, and the steps of the procedure."""

    def __init__(
        self, context: JobContext, restore: Restore, stored: StoredPoint, connection: sdk.Connection
    ) -> None:
        self.context = context
        self.restore = restore
        self.stored = stored
        self.connection = connection
        self.plan: dict[str, Any] = restore.plan
        self.leftovers = Leftovers(context.job, connection)
        self.ca_file = restore.point.vm.environment.address().ca_file()

    # --- before anything is made --------------------------------------------------------------------

    def check_plan(self) -> None:
        """As long as nothing is made: the world must be the one that the plan was made for."""
        if self.context.memory.get("disk_ids"):
            return
        approvals.require_consent(self.restore)
        world.require_plan(self.restore)
        disks = self._new_disks({disk["disk_id"]: "" for disk in self.stored.manifest["disks"]})
        world.require_storage(self.connection, self.restore, world.needed_bytes(self.stored, disks))

    def plan_disks(self) -> dict[str, NewDisk]:
        """By the stored disk's id. New ids are remembered before anything is created."""
        ids: dict[str, str] = dict(self.context.memory.get("disk_ids") or {})
        if not ids:
            ids = {disk["disk_id"]: str(uuid.uuid4()) for disk in self.stored.manifest["disks"]}
            self.context.remember(disk_ids=ids)
        return self._new_disks(ids)

    def _new_disks(self, ids: dict[str, str]) -> dict[str, NewDisk]:
        return {
            disk["disk_id"]: self._new_disk(disk, ids[disk["disk_id"]])
            for disk in self.stored.manifest["disks"]
        }

    def _new_disk(self, disk: dict[str, Any], disk_id: str) -> NewDisk:
        on_blocks = self.plan.get("storage_kind") in BLOCK_STORAGE
        thin = disk["format"] == "cow"
        return NewDisk(
            disk_id=disk_id,
            alias=disk["alias"],
            description=f"Restored from {self.restore.point}"[:250],
            size_bytes=disk["size_bytes"],
            initial_bytes=self._initial_bytes(disk["disk_id"]) if on_blocks and thin else None,
            format=disk["format"],
            sparse=disk["sparse"] and (thin or not on_blocks),
            incremental=thin,
            storage_domain_id=self.plan["storage_domain_id"],
            interface=disk["interface"],
            bootable=disk["bootable"],
            active=True,
            read_only=disk["read_only"],
            wipe_after_delete=disk["wipe_after_delete"],
        )

    def _initial_bytes(self, source_id: str) -> int:
        """Room for the data and qcow2's own tables, a little generous; never more than a full disk needs."""
        with self.stored.index(source_id) as index:
            tables = index.size_bytes // 2048 + (4 << 20)
        return world.data_bytes(self.stored, source_id) + tables

    def machine_description(self) -> str:
        """The OVF to import; checked first, so that a bad one is known before any disk is made."""
        return ovf.without_disks(
            self.stored.read_file("vm.ovf"), unplug_nics=not self.plan["network_plugged"]
        )

    def check_name(self) -> None:
        if self.leftovers.own_machine() is None and new_vm.find_vm(self.connection, self.restore.target_name):
            raise NameTaken(
                f"A machine called {self.restore.target_name} exists already; nothing was changed.",
                hint="Choose another name.",
            )

    # --- disks ------------------------------------------------------------------------------------

    def adopt_uploads(self, disks: dict[str, NewDisk]) -> None:
        """Uploads whose id was lost with a worker or an answer: they keep their disks locked."""
        if not self.context.is_resumed:
            return
        for disk in disks.values():
            if disk.disk_id not in (self.context.memory.get("transfers") or {}):
                found = image_transfer.open_transfers_of(self.connection, [disk.disk_id], direction="upload")
                if found:
                    self._remember_transfer(disk.disk_id, found[0])

    def ensure_written_or_empty_disk(self, source_id: str, disk: NewDisk) -> None:
        """One that an earlier attempt has written and proven is kept as long as it is good, else written again: one
        made anew in its place is empty."""
        written: dict[str, str] = dict(self.context.memory.get("written") or {})
        if source_id in written:
            timeout = settings.MANAGER_PHASE_TIMEOUT
            if new_vm.keeps_disk(
                self.connection, disk.disk_id, pause=self.context.pause, timeout_seconds=timeout
            ):
                return
            self.context.tell(
                f"The disk {disk.alias}, written already, is gone or illegal; writing it again."
            )
            del written[source_id]
            self.context.remember(written=written)
        self.ensure_disk(disk)

    def ensure_disk(self, disk: NewDisk) -> None:
        if disk.disk_id in (self.context.memory.get("transfers") or {}):
            return  # it exists and is locked by the upload of an earlier attempt
        new_vm.ensure_disk(
            self.connection,
            disk,
            pause=self.context.pause,
            timeout_seconds=settings.MANAGER_PHASE_TIMEOUT,
        )

    def write_disks(self, disks: dict[str, NewDisk]) -> None:
        done: dict[str, str] = dict(self.context.memory.get("written") or {})
        for number, (source_id, disk) in enumerate(disks.items()):
            if source_id in done:
                continue
            title = f"Writing {disk.alias}" + (
                f" (disk {number + 1} of {len(disks)})" if len(disks) > 1 else ""
            )
            with self.context.step(f"write-{source_id}", title) as step:
                done[source_id] = self._write_disk(source_id, disk)
                step.detail = "Proven equal to the restore point by SHA-256."
            self.context.remember(written=done)

    def _write_disk(self, source_id: str, disk: NewDisk) -> str:
        """Upload, then compare imageio's checksum of the disk with the index's digest. Returns the digest."""
        transfer = self._open_upload(disk)
        try:
            with ticket_may_end():
                digest = self._upload(source_id, disk, transfer)
        except TransferFailed:
            # A ticket that is gone does not come back: the next attempt begins with a new disk.
            self._drop_upload(disk, transfer.transfer_id)
            raise
        except ChunkMissing:
            self.stored.repository.check()  # a share that went away has no chunk at all
            raise
        except TransferBroken as error:
            # imageio tells its clients no more than 500 when the storage is full.
            error.hint = error.hint or (
                "Look whether the storage domain is full and at the image server's log on the host, then try again."
            )
            raise
        pause, timeout = self.context.pause, settings.MANAGER_PHASE_TIMEOUT
        ending = image_transfer.end_transfer(
            self.connection, transfer.transfer_id, pause=pause, timeout_seconds=timeout
        )
        self._forget_transfer(disk.disk_id)
        if ending == "finished_failure" or not new_vm.keeps_disk(
            self.connection, disk.disk_id, pause=pause, timeout_seconds=timeout
        ):
            raise TransferFailed(
                f"The Manager did not accept the uploaded disk {disk.alias} and removed it.",
                hint="Look at the Manager's events for the disk (host, storage), then restore again.",
            )
        return digest

    def _upload(self, source_id: str, disk: NewDisk, transfer: OpenTransfer) -> str:
        endpoint = ImageEndpoint(
            transfer_url=transfer.transfer_url,
            proxy_url=transfer.proxy_url,
            ca_file=self.ca_file,
            max_connections=settings.TRANSFER_CONNECTIONS,
        )
        # Its ids are those of the manifest: else a changed index would be proven equal to itself.
        with self.stored.whole_index(source_id) as index:
            stats = write_disk(
                endpoint,
                index,
                self.stored.repository.chunks,
                progress=self.context.progress,
                disk_is_zero=True,
                # The checksum below proves every byte of the disk.
                hashed=False,
            )
            if stats.via == "proxy":
                self.context.warn(
                    "The host could not be reached directly; data went through the Manager's proxy, which is slower. "
                    "Let the workers reach port 54322 of the hosts."
                )
            expected = self.stored.digest_hex(source_id)
            self.context.write(phase=f"Proving that {disk.alias} is equal")
            found = checksum(endpoint, block_size=index.chunk_size, progress=self.context.progress)
        if found != expected:
            raise RestoreNotEqual(
                f"The restored disk {disk.alias} differs from the restore point; the new machine was not kept.",
                hint="Verify the restore point, look at the storage domain's health, then restore again.",
            )
        return expected

    def _open_upload(self, disk: NewDisk) -> OpenTransfer:
        """The upload of an earlier attempt if it can go on (writing the same bytes again is harmless), else a new one."""
        pause, timeout = self.context.pause, settings.MANAGER_PHASE_TIMEOUT
        known = (self.context.memory.get("transfers") or {}).get(disk.disk_id)
        if known is not None:
            try:
                return image_transfer.wait_transferring(
                    self.connection, known, pause=pause, timeout_seconds=timeout
                )
            except TransferFailed:
                self.context.tell("The upload of an earlier attempt cannot go on; beginning anew.")
                self._drop_upload(disk, known)
                self.ensure_disk(disk)
        return image_transfer.open_transfer(
            self.connection,
            disk_id=disk.disk_id,
            direction="upload",
            on_created=lambda transfer_id: self._remember_transfer(disk.disk_id, transfer_id),
            pause=pause,
            timeout_seconds=timeout,
        )

    def _drop_upload(self, disk: NewDisk, transfer_id: str) -> None:
        """Cancel an upload that is of no use any more; its disk, which this job made, may go with it."""
        pause, timeout = self.context.pause, settings.MANAGER_PHASE_TIMEOUT
        image_transfer.cancel_upload(self.connection, transfer_id, pause=pause, timeout_seconds=timeout)
        new_vm.remove_disk(self.connection, disk.disk_id, pause=pause, timeout_seconds=timeout)
        self._forget_transfer(disk.disk_id)

    def _remember_transfer(self, disk_id: str, transfer_id: str) -> None:
        transfers = dict(self.context.memory.get("transfers") or {})
        self.context.remember(transfers={**transfers, disk_id: transfer_id})

    def _forget_transfer(self, disk_id: str) -> None:
        transfers = dict(self.context.memory.get("transfers") or {})
        transfers.pop(disk_id, None)
        self.context.remember(transfers=transfers)

    # --- machine ----------------------------------------------------------------------------------

    @property
    def _comment(self) -> str:
        """Stands on the new VM, so that a second worker knows it as this job's own."""
        return f"Restored from {self.restore.point}, job {self.context.job.uuid}"

    def ensure_machine(self, description: str) -> str:
        vm_id = self.context.memory.get("vm_id") or self.leftovers.own_machine()
        if vm_id is None:
            vm_id = self._import_machine(description)
        self.context.remember(vm_id=vm_id)
        try:
            new_vm.wait_down(
                self.connection,
                vm_id,
                pause=self.context.pause,
                timeout_seconds=settings.MANAGER_PHASE_TIMEOUT,
            )
        except MachineGone:
            self.context.remember(vm_id=None, vm_unseen=vm_id)
            raise
        return str(vm_id)

    def _import_machine(self, description: str) -> str:
        try:
            return new_vm.import_vm(
                self.connection,
                name=self.restore.target_name,
                cluster_id=self.plan["cluster_id"],
                ovf=description,
                comment=self._comment,
                new_macs=self.plan["new_macs"],
            )
        except NameTaken:
            # By ourselves, if this was the repetition of a request whose answer was lost.
            own = self.leftovers.own_machine()
            unseen = self.context.memory.get("vm_unseen")
            if own is None and unseen and not new_vm.find_vm(self.connection, self.restore.target_name):
                raise MadeUnseen(f"the machine {self.restore.target_name} ({unseen})") from None
            if own is None:
                raise
            return own

    def finish_machine(self, vm_id: str, disks: list[NewDisk]) -> None:
        new_vm.attach_disks(self.connection, vm_id, disks, pause=self.context.pause)
        attached = {disk.disk_id for disk in new_vm.attached_disks(self.connection, vm_id)}
        expected = {disk.disk_id for disk in disks}
        if attached != expected:
            raise RestoreNotEqual(
                "The Manager attached other disks to the new machine than those restored; it was not kept.",
                hint="Look at the Manager's events (175) and whether the portal's account still has the right to see "
                "disks of new machines, then restore again.",
            )
        if not self.plan["network_plugged"]:
            new_vm.unplug_nics(self.connection, vm_id)

    def tell_result(self, vm_id: str) -> None:
        self.context.write(result={"vm_id": vm_id, "vm_name": self.restore.target_name, "identical": True})
        Restore.objects.filter(pk=self.restore.pk).update(new_vm_id=vm_id, proven_at=timezone.now())

    # --- giving up --------------------------------------------------------------------------------

    def remove_if_ended(self) -> None:
        """A worker that stood still in the middle of a request may make a disk or a machine after its job was
        ended and cleaned up by another: then it belongs to nobody, and this worker takes it away again."""
        ended = Job.objects.filter(
            pk=self.context.job.pk, state__in=(JobState.FAILED, JobState.CANCELLED)
        ).exists()
        if not ended or not self.context.memory.get("disk_ids"):
            return
        try:
            self.leftovers.remove(pause=time.sleep, timeout_seconds=settings.MANAGER_PHASE_TIMEOUT)
        except PortalError as error:
            log.warning("What was made after the job had ended could not be removed: %s", error)
