# SPDX-License-Identifier: GPL-3.0-or-later
"""Proofs that do not trust the portal's own word: casync, imageio's checksum, and the guest's own journal."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ovirtsdk4 as sdk
from django.conf import settings

from backups.models import RestorePoint, RestorePointDisk
from backups.transfer import ImageEndpoint, checksum
from portal.accounts.models import User
from portal.demo.stage import DemoFailed, Stage
from portal.environments.models import VirtualMachine
from portal.ovirt import image_transfer, new_vm
from portal.ovirt.connection import connect
from portal.ovirt.people import read_people
from restores.models import Restore

_MAGIC = b"OVBPSEQ1"


def restored_disks_equal(restore: Restore) -> bool:
    """Open each restored disk again by a download of its own and compare imageio's checksum with the digest."""
    point = restore.point
    environment = point.vm.environment
    digests = sorted((disk.alias, disk.size_bytes, disk.digest) for disk in point.disks.all())
    sizes = {disk.alias: disk.chunk_size for disk in point.disks.all()}
    found = []
    with connect(environment.address(), correlation_id=str(uuid.uuid4())) as connection:
        for disk in new_vm.attached_disks(connection, str(restore.new_vm_id)):
            value = _remote_checksum(
                connection, disk.disk_id, sizes[disk.alias], environment.address().ca_file()
            )
            found.append((disk.alias, disk.size_bytes, value))
    return sorted(found) == digests


def is_owned(restore: Restore, person: User) -> bool:
    """The Manager, asked anew, names the person an owner of the restored machine too, and the portal shows it to them."""
    environment, vm_id = restore.point.vm.environment, str(restore.new_vm_id)
    with connect(environment.address(), correlation_id=str(uuid.uuid4())) as connection:
        owners = {fact.principal for fact in read_people(connection) if fact.vm_id == vm_id}
    names = set(environment.identities.filter(user=person).values_list("principal", flat=True))
    seen = VirtualMachine.objects.visible_to(person).filter(manager_id=vm_id)
    return bool(owners & names) and seen.exists()


def rights() -> dict[str, Any]:
    """Every route asked as everybody, against the table of rights: how many routes, and how many cells were checked.

    Raises DemoFailed if one was answered otherwise. In a database of its own, not the demo's.
    """
    command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "check_rights"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DemoFailed(
            f"The rights are not as their table says: {done.stdout[-2000:]} {done.stderr[-2000:]}"
        )
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"routes": figures["routes"], "cells_checked": figures["cells_checked"]}


def _remote_checksum(connection: sdk.Connection, disk_id: str, block_size: int, ca_file: Path | None) -> str:
    import time

    opened: list[str] = []
    transfer = image_transfer.open_transfer(
        connection,
        disk_id=disk_id,
        direction="download",
        on_created=opened.append,
        pause=time.sleep,
        timeout_seconds=settings.MANAGER_PHASE_TIMEOUT,
    )
    try:
        endpoint = ImageEndpoint(transfer.transfer_url, transfer.proxy_url, ca_file)
        return checksum(endpoint, block_size=block_size)
    finally:
        image_transfer.end_transfer(
            connection, opened[0], pause=time.sleep, timeout_seconds=settings.MANAGER_PHASE_TIMEOUT
        )


def casync_extracts_equal(point: RestorePoint) -> bool:
    """Debian's casync, which knows nothing of the portal, must give back the very same disks."""
    return all(_extracted_digest(point, disk) == disk.digest for disk in point.disks.all())


def _extracted_digest(point: RestorePoint, disk: RestorePointDisk) -> str:
    casync = shutil.which("casync")
    if casync is None:
        raise DemoFailed("casync is not installed: apt-get install casync")
    store = point.repository.open()
    index = store.open_ref(point.ref).index_path(str(disk.manager_id))
    with tempfile.TemporaryDirectory(dir=settings.DATA_DIR) as folder:
        raw = Path(folder) / "disk.raw"
        command = [casync, "extract", f"--store={store.path / 'chunks'}", str(index), str(raw)]
        subprocess.run(command, check=True, capture_output=True)
        return block_digest(raw, disk.chunk_size)


def block_digest(path: Path, block_size: int) -> str:
    """SHA-256 over the SHA-256 digests of the blocks: what imageio's checksum answers (reference 5.8)."""
    outer = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(block_size):
            outer.update(hashlib.sha256(block).digest())
    return outer.hexdigest()


def is_one_moment(stage: Stage, point: RestorePoint) -> bool:
    """Whether the point shows the guest's writes up to one write and none after it, while it wrote on meanwhile.

    The guest's own journal (kept by the lab beside the disks) tells what was written where and in which order.
    """
    writes = list(_journal(stage, str(point.vm.manager_id)))
    if not writes:
        raise DemoFailed("The guest's journal is empty: it did not write.")
    seen = _blocks_in(point, writes)
    last = max((number for number, _ in seen.values()), default=0)
    newest: dict[int, dict[str, Any]] = {}
    for write in writes:
        if write["seq"] <= last:
            newest[write["offset"]] = write
    whole = all(seen.get(offset, (0, ""))[1] == write["sha256"] for offset, write in newest.items())
    assert point.job is not None
    ended = point.job.steps.get(name="end").started_at
    assert ended is not None
    went_on = any(write["seq"] > last and write["finished"] < ended.timestamp() for write in writes)
    none_later = all(number <= last for number, _ in seen.values())
    return whole and went_on and none_later and last > 0


def _journal(stage: Stage, vm_id: str) -> Iterator[dict[str, Any]]:
    name = next(vm["name"] for vm in stage.lab["vms"] if vm["id"] == vm_id)
    path = Path(stage.lab["dir"]) / "journals" / f"{name}.jsonl"
    with path.open() as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)


def _blocks_in(point: RestorePoint, writes: list[dict[str, Any]]) -> dict[int, tuple[int, str]]:
    """(sequence number, SHA-256) of each block of the guest's writer that the point holds, by offset."""
    store = point.repository.open()
    stored = store.open_ref(point.ref)
    found = {}
    offsets = {write["offset"]: write["length"] for write in writes}
    disk = point.disks.get()  # the demo's machine has one disk, and its guest writes there
    with stored.index(str(disk.manager_id)) as index:
        cached: tuple[int, bytes] = (-1, b"")
        for offset, length in sorted(offsets.items()):
            number, inside = divmod(offset, index.chunk_size)
            if cached[0] != number:
                chunk = store.chunks.read(index.chunk_id(number), index.length_of(number))
                cached = (number, bytes(chunk))
            block = cached[1][inside : inside + length]
            if block.startswith(_MAGIC):
                sequence = int.from_bytes(block[8:16], "little")
                found[offset] = (sequence, hashlib.sha256(block).hexdigest())
    return found
