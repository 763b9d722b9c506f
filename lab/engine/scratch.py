# SPDX-License-Identifier: GPL-3.0-or-later
"""Scratch disks of live backups: what the API shows of them, and the folder that the hypervisor fills.

Source: ovirt-engine bll …/storage/disk/CreateScratchDiskCommand.java."""

import shutil
import uuid
from pathlib import Path

from lab.engine.core import Core
from lab.engine.state import Backup, Disk, Vm


def backup_event(core: Core, backup: Backup, code: int, text: str, severity: str = "normal") -> None:
    """An event of a backup; `{b}`, `{v}` and `{u}` in `text` stand for the backup, its VM and the user."""
    vm = core.state.vms.get(backup.vm_id)
    name = vm.name if vm else backup.vm_id
    description = text.replace("{b}", backup.id).replace("{v}", name)
    core.events.add(code, description.replace("{u}", core.events.user_name), severity, vm_id=backup.vm_id)


class ScratchDisks:
    def __init__(self, core: Core) -> None:
        self._core = core

    def add(self, vm: Vm, backup: Backup, disk: Disk) -> None:
        """The scratch image as the API shows it: a disk on the same domain, `locked` until `done`."""
        image_id = str(uuid.uuid4())
        scratch = Disk(
            id=str(uuid.uuid4()),
            alias=f"VM {vm.name} backup {backup.id} scratch disk for {disk.alias}",
            description=f"Backup {backup.id} scratch disk",
            format="cow",
            provisioned_size=disk.provisioned_size,
            sparse=True,
            storage_domain_id=disk.storage_domain_id,
            image_id=image_id,
            path=self._directory(backup) / image_id,
            created=self._core.clock.now(),
            status="locked",
            content_type="backup_scratch",
        )
        self._core.state.disks[scratch.id] = scratch
        backup.scratch_disk_ids.append(scratch.id)
        text = f"Scratch disk creation for VM {{v}} backup {{b}} disk {disk.alias} started (User: {{u}})."
        backup_event(self._core, backup, 10799, text)

    def done(self, backup: Backup) -> None:
        """All of them have been created."""
        for disk_id, member in zip(backup.scratch_disk_ids, backup.disks, strict=True):
            self._core.state.disks[disk_id].status = "ok"
            alias = self._core.state.disks[member.disk_id].alias
            text = f"Scratch disk creation for VM {{v}} backup {{b}} disk {alias} succeeded (User: {{u}})."
            backup_event(self._core, backup, 10805, text)

    def make_directory(self, backup: Backup) -> Path:
        """Where the hypervisor puts the images."""
        directory = self._directory(backup)
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    def delete_files(self, backup: Backup) -> None:
        shutil.rmtree(self._directory(backup), ignore_errors=True)

    def forget(self, backup: Backup) -> None:
        """The API shows them no more."""
        for disk_id in backup.scratch_disk_ids:
            self._core.state.disks.pop(disk_id, None)

    def _directory(self, backup: Backup) -> Path:
        return self._core.directory / "scratch" / backup.id
