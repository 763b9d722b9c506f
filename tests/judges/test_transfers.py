# SPDX-License-Identifier: GPL-3.0-or-later
"""Image transfers that are held open, paused and cancelled by examples of the SDK, and `ovirt-img`."""

import json
import signal
import subprocess
from pathlib import Path

import pytest
from ovirtsdk4 import types

from tests.judges.images import assert_equal, file_checksum, volume_file
from tests.judges.ovirt_img import OvirtImg
from tests.judges.test_machines import remove_disk
from tests.lab_api.support import Client
from tests.lab_support import RunningLab
from tests.sdk_examples import Examples

pytestmark = [pytest.mark.lab, pytest.mark.judges]
judge = pytest.mark.judge
MIB = 1 << 20
Phase = types.ImageTransferPhase


@pytest.fixture
def ovirt_img(lab: RunningLab, tmp_path: Path) -> OvirtImg:
    return OvirtImg(lab, tmp_path)


def read_until(process: "subprocess.Popen[str]", text: str) -> str:
    """The next line of the output that holds `text`; fails if the output ends before."""
    assert process.stdout is not None
    for line in iter(process.stdout.readline, ""):
        if text in line:
            return line
    raise AssertionError(f"the output ended without: {text}")


@judge("image_transfer.py")
def test_an_upload_is_paused_resumed_and_finalized(client: Client, examples: Examples) -> None:
    """The script reads once a second until it is interrupted; the pause is made beside it."""
    disk_id = client.add_disk(16 * MIB)
    arguments = ("-c", "lab", "upload", disk_id, "--read-delay", "1", "--inactivity-timeout", "60")
    with examples.running("image_transfer.py", *arguments) as running:
        transfer_id = read_until(running, "Transfer ID:").split()[-1]
        read_until(running, "Reading from server")
        service = client.transfer(transfer_id)
        service.pause()
        paused = client.wait_transfer(transfer_id, lambda t: t.phase == Phase.PAUSED_USER)
        service.resume()
        resumed = client.wait_transfer(transfer_id, lambda t: t.phase == Phase.TRANSFERRING)
        assert resumed.transfer_url == paused.transfer_url
        read_until(running, "Reading from server")
        running.send_signal(signal.SIGINT)
        read_until(running, "Finalizing image transfer")
        assert running.wait(60) == 0
    assert service.get().phase == Phase.FINISHED_SUCCESS
    assert client.system.disks_service().disk_service(disk_id).get().status == types.DiskStatus.OK
    remove_disk(client, disk_id)


@judge("image_transfer.py")
def test_an_idle_upload_is_paused_by_the_manager_and_ends_whole(client: Client, examples: Examples) -> None:
    """The script reads too seldom: the Manager pauses its upload, imageio hangs up, and the script finalizes."""
    disk_id = client.add_disk(16 * MIB)
    arguments = ("-c", "lab", "upload", disk_id, "--read-delay", "20", "--inactivity-timeout", "2")
    with examples.running("image_transfer.py", *arguments) as running:
        transfer_id = read_until(running, "Transfer ID:").split()[-1]
        client.wait_transfer(transfer_id, lambda t: t.phase == Phase.PAUSED_SYSTEM)
        assert 1071 in [code for code, _ in client.events("paused by system")]
        client.transfer(transfer_id).resume()
        client.wait_transfer(transfer_id, lambda t: t.phase == Phase.TRANSFERRING)
        read_until(running, "Finalizing image transfer")
        assert running.wait(60) != 0
    assert client.transfer(transfer_id).get().phase == Phase.FINISHED_SUCCESS
    client.wait_disk(disk_id)
    remove_disk(client, disk_id)


@judge("image_transfer.py")
def test_a_download_is_held_open_and_finalized(lab: RunningLab, client: Client, examples: Examples) -> None:
    (disk_id,) = client.disk_ids(lab.vm("files-01").id)
    with examples.running(
        "image_transfer.py", "-c", "lab", "download", disk_id, "--read-delay", "1"
    ) as running:
        transfer_id = read_until(running, "Transfer ID:").split()[-1]
        assert "host-01" in read_until(running, "Transfer host name:")
        read_until(running, "Reading from server")
        running.send_signal(signal.SIGINT)
        read_until(running, "Finalizing image transfer")
        assert running.wait(60) == 0
    assert client.transfer(transfer_id).get().phase == Phase.FINISHED_SUCCESS


@judge("cancel_transfer.py")
def test_cancelling_a_paused_upload_takes_its_disk_away(
    lab: RunningLab, client: Client, examples: Examples, tmp_path: Path
) -> None:
    disk_id = client.add_disk(16 * MIB)
    upload = client.upload(disk_id)
    client.transfer(upload.id).pause()
    client.wait_transfer(upload.id, lambda t: t.phase == Phase.PAUSED_USER)
    cancel(lab, examples, tmp_path, upload.id)
    client.wait_transfer(upload.id, lambda t: t.phase == Phase.FINISHED_FAILURE)
    assert client.is_gone(client.system.disks_service().disk_service(disk_id))


@judge("cancel_transfer.py")
def test_cancelling_a_download_leaves_its_disk(
    lab: RunningLab, client: Client, examples: Examples, tmp_path: Path
) -> None:
    (disk_id,) = client.disk_ids(lab.vm("files-01").id)
    path, _ = volume_file(lab, client, disk_id)
    before = file_checksum(path)
    download = client.download(disk_id)
    cancel(lab, examples, tmp_path, download.id)
    client.wait_transfer(download.id, lambda t: t.phase == Phase.FINISHED_FAILURE)
    client.wait_disk(disk_id)
    assert file_checksum(path) == before


def cancel(lab: RunningLab, examples: Examples, folder: Path, transfer_id: str) -> None:
    password = folder / "password"
    password.write_text(lab.password + "\n")
    arguments = ["--engine-url", lab.engine_url, "--username", lab.username, "--password-file", str(password)]
    out = examples.run("cancel_transfer.py", *arguments, "--cafile", lab.ca_file, transfer_id).stdout
    assert out == "Transfer cancelled\n"


@judge("ovirt-img download-disk")
@pytest.mark.parametrize("form", ["qcow2", "raw"])
def test_ovirt_img_downloads_what_the_disk_holds(
    lab: RunningLab, client: Client, ovirt_img: OvirtImg, tmp_path: Path, form: str
) -> None:
    (disk_id,) = client.disk_ids(lab.vm("legacy-01").id)
    image = tmp_path / f"down.{form}"
    last = ovirt_img.run("download-disk", "--format", form, disk_id, str(image))[-1]
    assert last["description"] == "download completed"
    source, source_format = volume_file(lab, client, disk_id)
    assert_equal(image, source, (form, source_format))
    info = json.loads(subprocess.check_output(["qemu-img", "info", "--output=json", str(image)]))
    assert info["format"] == form


@judge("ovirt-img upload-disk")
@pytest.mark.parametrize(("form", "more"), [("qcow2", []), ("raw", []), ("raw", ["--preallocated"])])
def test_ovirt_img_uploads_an_image_to_a_new_disk(
    lab: RunningLab, client: Client, ovirt_img: OvirtImg, tmp_path: Path, form: str, more: list[str]
) -> None:
    (source_id,) = client.disk_ids(lab.vm("files-01").id)
    image, image_format = volume_file(lab, client, source_id)
    disk_id = "3f0c2a2e-9f7e-4f0b-8a51-6c9b3d1f2e4a"
    named = ["--name", "uploaded", "--disk-id", disk_id, "--storage-domain", "data-02"]
    last = ovirt_img.run("upload-disk", "--format", form, *more, *named, str(image))[-1]
    assert last["description"] == "upload completed"
    disk = client.system.disks_service().disk_service(disk_id).get()
    assert (disk.name, disk.status, disk.sparse) == ("uploaded", types.DiskStatus.OK, not more)
    copy, copy_format = volume_file(lab, client, disk_id)
    assert copy_format == form
    assert_equal(image, copy, (image_format, copy_format))
    assert file_checksum(image) == file_checksum(copy)
    remove_disk(client, disk_id)
