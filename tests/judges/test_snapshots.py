# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots, taken, listed and read by examples of the SDK."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ovirtsdk4 import types

from tests.judges.images import assert_equal
from tests.lab_api.support import Client, wait_for
from tests.lab_support import RunningLab
from tests.sdk_examples import Examples

pytestmark = [pytest.mark.lab, pytest.mark.judges]
judge = pytest.mark.judge
DESCRIPTION = "My snapshot"


@pytest.fixture
def files(lab: RunningLab, client: Client) -> Iterator[str]:
    """files-01, without the snapshots that a test leaves."""
    vm_id = lab.vm("files-01").id
    yield vm_id
    for snapshot in taken_of(client, vm_id):
        service = client.vm(vm_id).snapshots_service().snapshot_service(snapshot.id)
        service.remove()
        wait_for(lambda one=service: client.is_gone(one), "the snapshot is gone")  # type: ignore[misc]


def taken_of(client: Client, vm_id: str) -> list[Any]:
    """The regular snapshots that are `ok`."""
    found = client.vm(vm_id).snapshots_service().list()
    regular = [each for each in found if each.snapshot_type == types.SnapshotType.REGULAR]
    return [each for each in regular if each.snapshot_status == types.SnapshotStatus.OK]


def take(client: Client, examples: Examples, vm_id: str) -> Any:
    """By the script; the newest snapshot then."""
    before = {each.id for each in taken_of(client, vm_id)}
    examples.run_as_if("add_vm_snapshot.py", {"name=myvm": "name=files-01"})

    def new() -> Any:
        return next((each for each in taken_of(client, vm_id) if each.id not in before), None)

    return wait_for(new, "the snapshot is taken")


@judge("add_vm_snapshot.py", "list_vm_snapshots.py")
def test_a_snapshot_is_taken_and_listed(client: Client, examples: Examples, files: str) -> None:
    """Beside the active one; the disk is in both."""
    snapshot = take(client, examples, files)
    assert snapshot.description == DESCRIPTION
    (disk_id,) = client.disk_ids(files)
    disk = client.system.disks_service().disk_service(disk_id).get()
    domains = {each.id: each.name for each in client.system.storage_domains_service().list()}
    where = f"{disk.alias}:{domains[disk.storage_domains[0].id]}"
    lines = [line for line in examples.run_as_if("list_vm_snapshots.py") if line.startswith("files-01:")]
    expected = [f"files-01:{name}:{where}" for name in (DESCRIPTION, "Active VM")]
    assert sorted(lines) == sorted(expected)


@judge("download_disk_snapshot.py")
def test_a_chain_of_volumes_is_read_one_by_one(
    lab: RunningLab, client: Client, examples: Examples, files: str, tmp_path: Path
) -> None:
    """Each volume on top of the one before, as the script stacks them; the last is the disk."""
    (disk_id,) = client.disk_ids(files)
    disk = client.system.disks_service().disk_service(disk_id)
    for _ in range(2):
        take(client, examples, files)
    service = disk.disk_snapshots_service()
    below, above = service.list()
    domain_id = disk.get().storage_domains[0].id
    domain = client.system.storage_domains_service().storage_domain_service(domain_id).get()
    base, top = tmp_path / "base.qcow2", tmp_path / "top.qcow2"
    common = ("-c", "lab", domain.name)
    examples.run("download_disk_snapshot.py", *common, below.id, str(base))
    examples.run("download_disk_snapshot.py", *common, above.id, str(top), "--backing-file", str(base))
    folder = lab.dir / "storage" / domain_id / disk_id
    assert_equal(base, folder / below.id, ("qcow2", "qcow2"))
    assert_equal(top, folder / above.id, ("qcow2", "qcow2"))
    assert top.stat().st_size < base.stat().st_size
