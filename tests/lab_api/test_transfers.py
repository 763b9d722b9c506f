# SPDX-License-Identifier: GPL-3.0-or-later
"""Image transfers: phases, timeouts and their policies, cancel, verification, the tickets behind the urls."""

import asyncio
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ovirtsdk4 as sdk
import pytest
from ovirt_imageio.client import ImageioClient
from ovirtsdk4 import types

from lab.engine.clock import Clock
from lab.engine.transfer_session import TICKET_SECONDS, TransferSession
from tests.lab_api.support import Client, Rest, wait_for
from tests.lab_support import RunningLab

pytestmark = pytest.mark.lab
MIB = 1 << 20
Phase = types.ImageTransferPhase
Policy = types.ImageTransferTimeoutPolicy


@pytest.fixture
def disk_id(client: Client) -> Iterator[str]:
    """A floating disk of 8 MiB; it may be gone at the end."""
    disk_id = client.add_disk(8 * MIB, f"disk-{uuid.uuid4().hex[:6]}")
    yield disk_id
    service = client.system.disks_service().disk_service(disk_id)
    if not client.is_gone(service) and service.get().status == types.DiskStatus.OK:
        service.remove()


def disk_of(client: Client, disk_id: str) -> Any:
    return client.system.disks_service().disk_service(disk_id).get()


def is_gone(client: Client, disk_id: str) -> bool:
    return client.is_gone(client.system.disks_service().disk_service(disk_id))


def last_codes(client: Client) -> list[int]:
    return [e.code for e in client.system.events_service().list(max=4)]


def write(lab: RunningLab, url: str, data: bytes, offset: int = 0) -> None:
    with ImageioClient(url, cafile=lab.ca_file) as imageio:
        imageio.write(offset, memoryview(data))
        imageio.flush()


def test_upload_then_download_by_both_urls(api_lab: RunningLab, client: Client, disk_id: str) -> None:
    transfer = client.upload(disk_id)
    assert transfer.phase == Phase.TRANSFERRING
    assert transfer.transfer_url.startswith(api_lab.imageio + "/images/")
    assert transfer.proxy_url.startswith("https://127.0.0.1:")
    assert (transfer.image.id, transfer.disk, transfer.backup) == (disk_id, None, None)
    assert (transfer.inactivity_timeout, transfer.timeout_policy) == (60, Policy.LEGACY)
    assert disk_of(client, disk_id).status == types.DiskStatus.LOCKED
    write(api_lab, transfer.transfer_url, b"one" * 1000)
    write(api_lab, transfer.proxy_url, b"two" * 1000, 4 * MIB)
    over = client.finalize(transfer.id)
    assert (over.phase, over.transfer_url, over.proxy_url) == (Phase.FINISHED_SUCCESS, None, None)
    assert disk_of(client, disk_id).status == types.DiskStatus.OK
    assert 1032 in last_codes(client)
    transfer = client.download(disk_id)
    for url in (transfer.transfer_url, transfer.proxy_url):
        with ImageioClient(url, cafile=api_lab.ca_file) as imageio:
            buffer = bytearray(3000)
            imageio.read(0, buffer)
            assert bytes(buffer) == b"one" * 1000
            imageio.read(4 * MIB, buffer)
            assert bytes(buffer) == b"two" * 1000
    client.finalize(transfer.id)


def test_second_transfer_of_a_disk_is_refused(client: Client, disk_id: str) -> None:
    transfer = client.upload(disk_id)
    with pytest.raises(sdk.Error, match=r"is being transferred"):
        client.download(disk_id)
    client.finalize(transfer.id)
    transfer = client.download(disk_id)
    with pytest.raises(sdk.Error, match=r"The following disks are locked"):
        client.upload(disk_id)
    with pytest.raises(sdk.Error, match=r"The following disks are locked"):
        client.system.disks_service().disk_service(disk_id).remove()
    client.finalize(transfer.id)


def test_disk_of_a_running_vm_and_bad_sources_are_refused(
    api_lab: RunningLab, client: Client, rest: Rest, disk_id: str
) -> None:
    running = client.disk_ids(api_lab.vm("web-01").id)[0]
    with pytest.raises(sdk.Error, match="is plugged to non-Down VMs: web-01") as caught:
        client.download(running)
    assert caught.value.code == 409
    with pytest.raises(sdk.Error, match="The specified VM backup does not exist") as caught:
        client.download(running, backup_id=str(uuid.uuid4()))
    assert caught.value.code == 400
    with pytest.raises(sdk.Error, match="Entity not found"):
        client.download(str(uuid.uuid4()))
    assert rest.post("/imagetransfers", "<image_transfer/>").text("reason") == "Incomplete parameters"
    body = f'<image_transfer><disk id="{disk_id}"/><direction>sideways</direction></image_transfer>'
    assert rest.post("/imagetransfers", body).status == 400


def test_transfer_of_a_backup_wants_it_ready_and_raw(api_lab: RunningLab, client: Client) -> None:
    vm_id = api_lab.vm("mail-01").id
    backup = client.start_backup(vm_id)
    (first, *_) = client.disk_ids(vm_id)
    with pytest.raises(sdk.Error, match="The specified format is not applicable for VM backup"):
        client.download(first, backup_id=backup.id, format=types.DiskFormat.COW)
    one, two = client.download(first, backup_id=backup.id), client.download(first, backup_id=backup.id)
    assert one.transfer_url != two.transfer_url
    for transfer in (one, two):
        assert client.finalize(transfer.id).phase == Phase.FINISHED_SUCCESS
    client.end_backup(vm_id, backup.id)
    with pytest.raises(sdk.Error, match="not in READY phase, backup phase is SUCCEEDED") as caught:
        client.download(first, backup_id=backup.id)
    assert caught.value.code == 409


def test_cancelled_download_ends_and_leaves_the_disk(client: Client, disk_id: str) -> None:
    transfer = client.download(disk_id)
    client.transfer(transfer.id).cancel()
    assert client.transfer(transfer.id).get().phase == Phase.CANCELLED_USER
    over = client.wait_transfer(transfer.id, lambda t: t.phase == Phase.FINISHED_FAILURE)
    assert over.transfer_url is None
    assert disk_of(client, disk_id).status == types.DiskStatus.OK
    assert 1033 in last_codes(client)


def test_cancelled_upload_takes_the_disk_of_a_vm_away(
    api_lab: RunningLab, client: Client, disk_id: str
) -> None:
    attachments = client.vm(api_lab.vm("legacy-01").id).disk_attachments_service()
    attachments.add(
        types.DiskAttachment(
            disk=types.Disk(id=disk_id), interface=types.DiskInterface.VIRTIO, bootable=False, active=True
        )
    )
    transfer = client.upload(disk_id)
    client.transfer(transfer.id).cancel()
    client.wait_transfer(transfer.id, lambda t: t.phase == Phase.FINISHED_FAILURE)
    assert is_gone(client, disk_id)
    assert client.is_gone(attachments.attachment_service(disk_id))


@pytest.mark.parametrize(
    ("policy", "upload", "phase", "code"),
    [
        (Policy.LEGACY, True, Phase.PAUSED_SYSTEM, 1071),
        (Policy.LEGACY, False, Phase.FINISHED_FAILURE, 1072),
        (Policy.PAUSE, False, Phase.PAUSED_SYSTEM, 1077),
        (Policy.CANCEL, True, Phase.FINISHED_FAILURE, 1076),
        (Policy.CANCEL, False, Phase.FINISHED_FAILURE, 1076),
    ],
)
def test_inactivity(
    client: Client,
    disk_id: str,
    policy: types.ImageTransferTimeoutPolicy,
    upload: bool,
    phase: Any,
    code: int,
) -> None:
    start = client.upload if upload else client.download
    transfer = start(disk_id, inactivity_timeout=1, timeout_policy=policy)
    client.wait_transfer(transfer.id, lambda t: t.phase == phase)
    assert code in last_codes(client)
    assert is_gone(client, disk_id) == (upload and policy == Policy.CANCEL)
    if phase == Phase.PAUSED_SYSTEM:
        assert disk_of(client, disk_id).status == types.DiskStatus.LOCKED
        assert client.finalize(transfer.id).phase == Phase.FINISHED_SUCCESS


def test_extend_keeps_an_idle_transfer_alive(client: Client, disk_id: str) -> None:
    transfer = client.download(disk_id, inactivity_timeout=1)
    deadline = time.monotonic() + 2.5
    while time.monotonic() < deadline:
        client.transfer(transfer.id).extend()
        time.sleep(0.1)
    assert client.transfer(transfer.id).get().phase == Phase.TRANSFERRING
    client.finalize(transfer.id)


def test_pause_and_resume_keep_the_urls(api_lab: RunningLab, client: Client, disk_id: str) -> None:
    transfer = client.upload(disk_id)
    service = client.transfer(transfer.id)
    with pytest.raises(sdk.Error) as caught:
        service.resume()
    text = "[Cannot resume image transfer as it's not in a paused state.]"
    assert (caught.value.code, caught.value.fault.detail) == (409, text)
    service.pause()
    assert service.get().phase == Phase.PAUSED_USER
    service.resume()
    resumed = client.wait_transfer(transfer.id, lambda t: t.phase == Phase.TRANSFERRING)
    assert resumed.transfer_url == transfer.transfer_url
    write(api_lab, resumed.transfer_url, b"x" * 512)
    assert client.finalize(transfer.id).phase == Phase.FINISHED_SUCCESS
    transfer = client.download(disk_id)
    with pytest.raises(sdk.Error, match="Cannot pause image download as it's handled by the client"):
        client.transfer(transfer.id).pause()
    client.finalize(transfer.id)


def test_actions_on_dead_and_unknown_transfers_are_silent(client: Client, rest: Rest, disk_id: str) -> None:
    transfer = client.download(disk_id)
    client.finalize(transfer.id)
    for transfer_id in (transfer.id, str(uuid.uuid4())):
        for action in ("finalize", "cancel", "pause", "extend"):
            answer = rest.post(f"/imagetransfers/{transfer_id}/{action}")
            assert (answer.status, answer.text("status")) == (200, "complete")
    assert client.transfer(transfer.id).get().phase == Phase.FINISHED_SUCCESS


def test_fully_read_download_is_finalized_by_itself(client: Client, rest: Rest, disk_id: str) -> None:
    transfer = client.download(disk_id)
    rest.json(f"{transfer.transfer_url}/checksum")
    client.wait_transfer(transfer.id, lambda t: t.phase == Phase.FINISHED_SUCCESS)


def test_url_is_dead_after_the_end(api_lab: RunningLab, client: Client, disk_id: str) -> None:
    transfer = client.download(disk_id)
    with ImageioClient(transfer.transfer_url, cafile=api_lab.ca_file) as imageio:
        client.finalize(transfer.id)
        with pytest.raises(Exception, match="No such ticket"):
            imageio.read(0, bytearray(512))


def test_stalled_client_holds_the_end_up(api_lab: RunningLab, client: Client, rest: Rest) -> None:
    disk_id = client.add_disk(64 * MIB, "big")
    transfer = client.download(disk_id)
    # Nobody reads the answer, so the daemon stands in the middle of it.
    with urllib.request.urlopen(transfer.transfer_url, context=rest.context, timeout=30):
        client.transfer(transfer.id).finalize()
        time.sleep(0.7)
        assert client.transfer(transfer.id).get().phase == Phase.FINALIZING_SUCCESS
    client.wait_transfer(transfer.id, lambda t: t.phase == Phase.FINISHED_SUCCESS)
    client.system.disks_service().disk_service(disk_id).remove()


def native_upload(lab: RunningLab, client: Client, disk_id: str, image: Path) -> Any:
    """The bytes of an image file as they are, over the file backend."""
    transfer = client.upload(disk_id, format=None)
    write(lab, transfer.transfer_url, image.read_bytes())
    return client.finalize(transfer.id)


@pytest.mark.parametrize(
    ("form", "make", "fine"),
    [
        (types.DiskFormat.COW, ["-f", "qcow2", "IMAGE", "8M"], True),
        (types.DiskFormat.RAW, ["-f", "qcow2", "IMAGE", "8M"], False),
        (types.DiskFormat.COW, ["-f", "qcow2", "IMAGE", "9M"], False),
        (
            types.DiskFormat.COW,
            ["-f", "qcow2", "-u", "-F", "raw", "-b", "/etc/hostname", "IMAGE", "8M"],
            False,
        ),
    ],
)
def test_native_upload_is_verified(
    api_lab: RunningLab, client: Client, tmp_path: Path, form: types.DiskFormat, make: list[str], fine: bool
) -> None:
    image = tmp_path / "image"
    argv = [str(image) if part == "IMAGE" else part for part in make]
    subprocess.run(["qemu-img", "create", "-q", *argv], check=True)
    disk_id = client.add_disk(8 * MIB, "native", format=form)
    over = native_upload(api_lab, client, disk_id, image)
    assert over.phase == (Phase.FINISHED_SUCCESS if fine else Phase.FINISHED_FAILURE)
    wait_for(lambda: is_gone(client, disk_id) != fine, "the disk is there or not")
    assert (1032 if fine else 1034) in last_codes(client)
    if fine:
        client.system.disks_service().disk_service(disk_id).remove()


def test_volume_can_be_the_source(client: Client, disk_id: str) -> None:
    volume = disk_of(client, disk_id).image_id
    values = {"direction": types.ImageTransferDirection.DOWNLOAD, "snapshot": types.DiskSnapshot(id=volume)}
    transfer = client.start_transfer(**values)
    assert transfer.image.id == disk_id
    client.finalize(transfer.id)


def test_tickets_are_renewed_before_they_run_out() -> None:
    renewed: list[tuple[str, str, int]] = []

    def daemon(name: str) -> SimpleNamespace:
        async def extend(ticket_id: str, seconds: int) -> None:
            renewed.append((name, ticket_id, seconds))

        return SimpleNamespace(extend_ticket=extend)

    core: Any = SimpleNamespace(clock=Clock(), host_imageio=daemon("host"), proxy_imageio=daemon("proxy"))
    session = TransferSession(core, disks=None)  # type: ignore[arg-type]
    transfer: Any = SimpleNamespace(id="T", ticket_id="K", proxy_url="https://x")

    async def twice() -> None:
        session._expires["T"] = time.monotonic() + 239
        await session._renew(transfer)
        await session._renew(transfer)

    asyncio.run(twice())
    assert renewed == [("host", "K", TICKET_SECONDS), ("proxy", "K", TICKET_SECONDS)]
