# SPDX-License-Identifier: GPL-3.0-or-later
"""Taking away what an unfinished restore has made on the Manager: its machine, its uploads, its disks."""

from __future__ import annotations

from typing import Any

import ovirtsdk4 as sdk
from django.utils import timezone

from portal.environments.models import VirtualMachine
from portal.jobs.models import Job
from portal.ovirt import image_transfer, new_vm
from portal.ovirt.connection import Pause

# What of a restore job's memory names things on the Manager. Gone from it = nothing is left there.
KEYS = ("disk_ids", "transfers", "vm_id", "written")
# How the warning begins that is told when they could not be removed at once; the sweep takes it back.
LEFT = "Not everything that this restore made could be removed from the Manager"
_AT_REST = (sdk.types.VmStatus.DOWN, sdk.types.VmStatus.IMAGE_LOCKED)


class Leftovers:
    """What one restore job made, by its memory. All of it is safe to repeat; raises PortalError."""

    def __init__(self, job: Job, connection: sdk.Connection) -> None:
        self._job = job
        self._connection = connection

    @property
    def _memory(self) -> dict[str, Any]:
        memory: dict[str, Any] = self._job.resume_state
        return memory

    @property
    def target_name(self) -> str:
        return str(self._job.params["plan"]["name"])

    def own_machine(self) -> str | None:
        """The id of the machine of the wanted name, if this job made it."""
        vm = new_vm.find_vm(self._connection, self.target_name)
        return str(vm.id) if vm is not None and self._is_ours(vm.comment) else None

    def is_in_use(self) -> bool:
        """Somebody has made the unfinished machine their own: it runs, or its comment no longer names this job.

        One that the Manager is still creating is locked, and nobody's.
        """
        known = self._memory.get("vm_id")
        vm = new_vm.read_vm(self._connection, known) if known else None
        return vm is not None and not (self._is_ours(vm.comment) and vm.status in _AT_REST)

    def _is_ours(self, comment: str | None) -> bool:
        return str(self._job.uuid) in (comment or "")

    def remove(self, *, pause: Pause, timeout_seconds: float) -> None:
        vm_id = self._memory.get("vm_id") or self.own_machine()
        if vm_id is not None:
            new_vm.remove_vm(self._connection, vm_id, pause=pause, timeout_seconds=timeout_seconds)
            # Where it was listed here already, it is no more: its name is free again.
            VirtualMachine.objects.filter(
                environment=self._job.environment_id, manager_id=vm_id, gone_at=None
            ).update(gone_at=timezone.now(), status="gone")
        disk_ids = list((self._memory.get("disk_ids") or {}).values())
        transfers = set((self._memory.get("transfers") or {}).values())
        transfers |= set(image_transfer.open_transfers_of(self._connection, disk_ids, direction="upload"))
        for transfer_id in sorted(transfers):
            # These disks were made by this job, so the Manager may delete them with the upload.
            image_transfer.cancel_upload(
                self._connection, transfer_id, pause=pause, timeout_seconds=timeout_seconds
            )
        for disk_id in disk_ids:
            new_vm.remove_disk(self._connection, disk_id, pause=pause, timeout_seconds=timeout_seconds)
