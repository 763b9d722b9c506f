# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients that nobody here wrote: the SDK's own example scripts, run as they are."""

import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from lab.guest_writer import block_content, block_seq
from tests.judges.images import assert_equal, file_checksum, volume_file
from tests.lab_api.support import Client, Rest, wait_for
from tests.lab_support import RunningLab
from tests.sdk_examples import Examples

pytestmark = [pytest.mark.lab]
MIB = 1 << 20


def backup_id(output: str) -> str:
    return re.findall(r"Backup '([0-9a-f-]{36})'", output)[-1]


def checkpoint_id(output: str) -> str:
    return re.findall(r"Created checkpoint '([0-9a-f-]{36})'", output)[-1]


def served_checksum(client: Client, rest: Rest, disk_id: str, backup: str) -> str:
    """The checksum of a backed-up disk as the imageio daemon computes it inside the backup."""
    transfer = client.download(disk_id, backup_id=backup)
    try:
        return str(rest.json(f"{transfer.transfer_url}/checksum")["checksum"])
    finally:
        client.finalize(transfer.id)


def journal(lab: RunningLab, name: str) -> list[dict[str, Any]]:
    lines = (lab.dir / "journals" / f"{name}.jsonl").read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def check_point_in_time(image: Path, entries: list[dict[str, Any]], began: float, ready: float) -> None:
    """Each block of the guest must be one of: the last written before `began`, or one written until `ready`."""
    before: dict[int, int] = {}
    allowed: dict[int, set[int]] = {}
    for entry in entries:
        if entry["finished"] < began:
            before[entry["offset"]] = entry["seq"]
        elif entry["started"] < ready:
            allowed.setdefault(entry["offset"], set()).add(entry["seq"])
    length = entries[0]["length"]
    raw = image.with_suffix(".raw")
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(image), str(raw)], check=True)
    checked = 0
    with raw.open("rb") as disk:
        for offset in before:
            disk.seek(offset)
            block = disk.read(length)
            seq = block_seq(block)
            assert seq in {before[offset], *allowed.get(offset, set())}, f"block at {offset} holds {seq}"
            assert block == block_content(seq, length)
            checked += 1
    raw.unlink()
    assert checked > 0


@pytest.mark.judge("backup_vm.py")
def test_running_vm_in_full_then_by_its_dirty_blocks_gives_the_disk_of_that_moment(
    api_lab: RunningLab, client: Client, rest: Rest, examples: Examples, tmp_path: Path
) -> None:
    vm = api_lab.vm("web-01")
    (disk_id,) = client.disk_ids(vm.id)
    wait_for(lambda: len(journal(api_lab, "web-01")) > 20, "the guest has written")
    images: list[Path] = []
    since: list[str] = []
    for mode in ("full", "incremental"):
        began = time.time()
        started = examples.backup("start", *since, vm.id).stdout
        ready, backup = time.time(), backup_id(started)
        downloading = ["--backup-uuid", backup, *(["--incremental"] if mode == "incremental" else []), vm.id]
        examples.backup("download", *downloading)
        expected = served_checksum(client, rest, disk_id, backup)
        examples.backup("stop", vm.id, backup)
        since = ["--from-checkpoint-uuid", checkpoint_id(started)]
        images.append(next(tmp_path.glob(f"*.{since[1]}.{disk_id}.{mode}.qcow2")))
        assert file_checksum(images[-1]) == expected
        check_point_in_time(images[-1], journal(api_lab, "web-01"), began, ready)
    info = json.loads(
        subprocess.check_output(["qemu-img", "info", "--output=json", "--backing-chain", str(images[1])])
    )
    assert [Path(layer["filename"]).name for layer in info] == [images[1].name, images[0].name]
    assert images[1].stat().st_size < images[0].stat().st_size


@pytest.mark.judge("backup_vm.py")
def test_two_disks_live_then_cold_compare_equal_with_the_stopped_disks(
    api_lab: RunningLab, client: Client, examples: Examples, tmp_path: Path
) -> None:
    vm = api_lab.vm("db-01")
    first = checkpoint_id(examples.backup("full", vm.id).stdout)
    client.set_power(vm.id, up=False)
    try:
        out = examples.backup("incremental", "--from-checkpoint-uuid", first, vm.id).stdout
        second = checkpoint_id(out)
        assert "not available" not in out
        for disk_id in client.disk_ids(vm.id):
            image = next(tmp_path.glob(f"*.{second}.{disk_id}.incremental.qcow2"))
            source, form = volume_file(api_lab, client, disk_id)
            assert_equal(image, source, ("qcow2", form))
    finally:
        client.set_power(vm.id, up=True)


@pytest.mark.judge("backup_vm.py", "checkpoints.py")
def test_raw_disk_is_copied_in_full_and_leaves_no_checkpoint(
    api_lab: RunningLab, client: Client, examples: Examples, tmp_path: Path
) -> None:
    vm = api_lab.vm("legacy-01")
    (disk_id,) = client.disk_ids(vm.id)
    out = examples.backup("full", vm.id).stdout
    assert "Created checkpoint" not in out
    image = next(tmp_path.glob(f"*.None.{disk_id}.full.qcow2"))
    source, form = volume_file(api_lab, client, disk_id)
    assert_equal(image, source, ("qcow2", form))
    assert examples.checkpoints(vm.id) == []


@pytest.mark.judge("checkpoints.py")
def test_checkpoints_are_listed_and_removed(api_lab: RunningLab, client: Client, examples: Examples) -> None:
    for name in ("files-01", "mail-01"):
        vm = api_lab.vm(name)
        # What other tests left on this machine; the example itself takes it away.
        examples.run("checkpoints.py", "-c", "lab", "purge", "--days", "-1", vm.id)
        made = []
        for number in (1, 2):
            made.append(client.start_backup(vm.id, description=f"number {number}"))
            client.end_backup(vm.id, made[-1].id)
        listed = examples.checkpoints(vm.id)
        assert [c["id"] for c in listed] == [b.to_checkpoint_id for b in made]
        assert {c["state"] for c in listed} == {"created"}
        assert listed[1]["description"] == "number 2"
        examples.run("checkpoints.py", "-c", "lab", "remove", vm.id, made[0].to_checkpoint_id)
        assert [c["id"] for c in examples.checkpoints(vm.id)] == [made[1].to_checkpoint_id]
        examples.run("checkpoints.py", "-c", "lab", "purge", "--days", "-1", vm.id)
        assert examples.checkpoints(vm.id) == []


@pytest.mark.judge("download_disk.py", "upload_disk.py", "checksum_disk.py")
def test_disk_goes_down_and_up_again_unchanged(
    api_lab: RunningLab, client: Client, examples: Examples, tmp_path: Path
) -> None:
    (disk_id,) = client.disk_ids(api_lab.vm("files-01").id)
    image = tmp_path / "down.qcow2"
    examples.download(disk_id, image)
    source, form = volume_file(api_lab, client, disk_id)
    assert_equal(image, source, ("qcow2", form))
    checksum = examples.checksum(disk_id)
    assert checksum["checksum"] == file_checksum(image)
    new_id = examples.upload(image, "--disk-sparse", "--enable-backup")
    copy, form = volume_file(api_lab, client, new_id)
    assert_equal(image, copy, ("qcow2", form))
    assert examples.checksum(new_id)["checksum"] == checksum["checksum"]
    client.system.disks_service().disk_service(new_id).remove()


@pytest.mark.judge("download_disk.py", "upload_disk.py")
def test_raw_image_of_an_odd_size_through_the_proxy(
    api_lab: RunningLab, client: Client, examples: Examples, tmp_path: Path
) -> None:
    (disk_id,) = client.disk_ids(api_lab.vm("legacy-01").id)
    image = tmp_path / "down.raw"
    examples.download(disk_id, image, "--format", "raw", "--use-proxy")
    assert image.stat().st_size % MIB != 0
    source, form = volume_file(api_lab, client, disk_id)
    assert_equal(image, source, ("raw", form))
    new_id = examples.upload(image, "--disk-format", "raw", "--disk-sparse", "--use-proxy", sd_name="data-02")
    copy, form = volume_file(api_lab, client, new_id)
    assert form == "raw"
    assert_equal(image, copy, ("raw", form))
    client.system.disks_service().disk_service(new_id).remove()


@pytest.mark.judge("backup_vm.py")
def test_incremental_from_an_unknown_checkpoint_is_refused(api_lab: RunningLab, examples: Examples) -> None:
    unknown = "7a1b5a2e-0000-4000-8000-000000000001"
    vm_id = api_lab.vm("web-01").id
    result = examples.backup("start", "--from-checkpoint-uuid", unknown, vm_id, check=False)
    assert result.returncode != 0
    assert f"[Cannot backup VM. Checkpoint ID {unknown} doesn't exist.]" in result.stderr
