# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults on the way of image data: connections that break, crawl or do not come about, tickets that are gone."""

import http.client
import os
import socket
import ssl
import time
import uuid
from collections.abc import Iterator
from urllib.parse import urlparse

import ovirtsdk4 as sdk
import pytest
from ovirt_imageio.client import ImageioClient
from ovirtsdk4 import types

from tests.lab_api.support import Client, connect, wait_for
from tests.lab_support import ControlRefused, LabControl, RunningLab

pytestmark = pytest.mark.lab
MIB = 1 << 20
Phase = types.ImageTransferPhase
# What imageio's client raises when its connection ends; RuntimeError for an answer that is too short.
BROKEN = (OSError, http.client.HTTPException, RuntimeError)


@pytest.fixture
def client(fault_lab: RunningLab) -> Iterator[Client]:
    with connect(fault_lab) as connection:
        yield Client(connection)


@pytest.fixture
def disk_id(client: Client) -> Iterator[str]:
    """A floating disk of 4 MiB, removed at the end."""
    disk_id = client.add_disk(4 * MIB, f"data-{uuid.uuid4().hex[:6]}")
    yield disk_id
    client.wait_disk(disk_id)
    client.system.disks_service().disk_service(disk_id).remove()


def opened(lab: RunningLab, transfer: types.ImageTransfer, proxy: bool = False) -> ImageioClient:
    return ImageioClient(
        transfer.transfer_url,
        cafile=lab.ca_file,
        proxy_url=transfer.proxy_url if proxy else None,
        buffer_size=64 << 10,
    )


def read(lab: RunningLab, transfer: types.ImageTransfer, size: int = MIB, proxy: bool = False) -> int:
    """Bytes that came."""
    with opened(lab, transfer, proxy) as imageio:
        return imageio.read(0, bytearray(size))


def port(url: str) -> int:
    return urlparse(url).port or 0


def test_drop_after_so_many_bytes_to_the_client(
    fault_lab: RunningLab, control: LabControl, client: Client, disk_id: str
) -> None:
    with control.fault("connection", how="drop", bytes=200_000, times=1) as fault:
        transfer = client.download(disk_id)
        assert port(transfer.transfer_url) != port(fault_lab.imageio)
        with pytest.raises(BROKEN):
            read(fault_lab, transfer)
        assert fault.struck == 1
        assert read(fault_lab, transfer) == MIB
    assert client.finalize(transfer.id).phase == Phase.FINISHED_SUCCESS


def test_drop_after_so_many_bytes_from_the_client(
    fault_lab: RunningLab, control: LabControl, client: Client, disk_id: str
) -> None:
    with control.fault("connection", how="drop", bytes=200_000, direction="up", after=1, times=1) as fault:
        transfer = client.upload(disk_id)
        with opened(fault_lab, transfer) as imageio:
            imageio.write(0, b"first" * 60_000)
        with pytest.raises(BROKEN), opened(fault_lab, transfer) as imageio:
            imageio.write(0, b"x" * MIB)
        assert fault.struck == 1
        with opened(fault_lab, transfer) as imageio:
            imageio.write(0, b"again" * 60_000)
    assert client.finalize(transfer.id).phase == Phase.FINISHED_SUCCESS
    transfer = client.download(disk_id)
    with opened(fault_lab, transfer) as imageio:
        buffer = bytearray(300_000)
        imageio.read(0, buffer)
        assert bytes(buffer) == b"again" * 60_000
    client.finalize(transfer.id)


def test_fault_that_is_laid_while_a_connection_is_open(
    fault_lab: RunningLab, control: LabControl, client: Client, disk_id: str
) -> None:
    urls = control.act("watch_connections")
    transfer = client.download(disk_id)
    assert transfer.transfer_url.startswith(urls["host"])
    assert transfer.proxy_url.startswith(urls["proxy"])
    with opened(fault_lab, transfer) as imageio:
        buffer = bytearray(64 << 10)
        assert imageio.read(0, buffer) == len(buffer)
        with control.fault("connection", how="drop", bytes=1000) as fault:
            with pytest.raises(BROKEN):
                imageio.read(0, buffer)
            assert fault.struck == 1
    assert read(fault_lab, transfer) == MIB
    client.finalize(transfer.id)


def test_stalled_and_slow_connections(
    fault_lab: RunningLab, control: LabControl, client: Client, disk_id: str
) -> None:
    control.act("watch_connections")
    transfer = client.download(disk_id)
    with opened(fault_lab, transfer) as imageio:
        imageio._backend._con.sock.settimeout(0.5)
        with control.fault("connection", how="stall", bytes=10_000) as fault:
            with pytest.raises(TimeoutError):
                imageio.read(0, bytearray(MIB))
            assert fault.struck == 1
    with control.fault("connection", how="slow", rate=500_000):
        began = time.monotonic()
        assert read(fault_lab, transfer, 200_000) == 200_000
        assert time.monotonic() - began > 0.2
    assert read(fault_lab, transfer) == MIB
    assert client.finalize(transfer.id).phase == Phase.FINISHED_SUCCESS


@pytest.mark.parametrize("how", ["refuse", "blackhole"])
def test_closed_port_leaves_only_the_proxy(
    fault_lab: RunningLab, control: LabControl, client: Client, disk_id: str, how: str
) -> None:
    with control.fault("connection", how=how) as fault:
        transfer = client.download(disk_id)
        with pytest.raises(ConnectionRefusedError if how == "refuse" else TimeoutError):
            socket.create_connection(("127.0.0.1", port(transfer.transfer_url)), timeout=0.3)
        if how == "refuse":
            # Falls over to the proxy, which reaches the host; for a black hole that costs ten seconds.
            assert read(fault_lab, transfer, proxy=True) == MIB
            with pytest.raises(ConnectionRefusedError):
                read(fault_lab, transfer)
        else:
            context = ssl.create_default_context(cafile=fault_lab.ca_file)
            with socket.create_connection(("127.0.0.1", port(transfer.proxy_url)), timeout=30) as raw:
                context.wrap_socket(raw, server_hostname="127.0.0.1").close()
        assert fault.struck == 1
    assert read(fault_lab, transfer) == MIB
    assert client.finalize(transfer.id).phase == Phase.FINISHED_SUCCESS


def test_closed_proxy(fault_lab: RunningLab, control: LabControl, client: Client, disk_id: str) -> None:
    with control.fault("connection", how="refuse", service="proxy"):
        transfer = client.download(disk_id)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port(transfer.proxy_url)), timeout=10)
        assert read(fault_lab, transfer) == MIB
    client.finalize(transfer.id)
    with pytest.raises(ControlRefused, match="takes neither times nor after"):
        control.fault("connection", how="refuse", times=1)
    with pytest.raises(ControlRefused, match="needs its rate"):
        control.fault("connection", how="slow")


def test_expired_ticket(fault_lab: RunningLab, control: LabControl, client: Client, disk_id: str) -> None:
    transfer = client.download(disk_id)
    assert control.act("expire_ticket", transfer=transfer.id)["ticket"] in transfer.transfer_url
    with pytest.raises(Exception, match="expired"):
        read(fault_lab, transfer)
    assert client.transfer(transfer.id).get().phase == Phase.TRANSFERRING
    assert client.finalize(transfer.id).phase == Phase.FINISHED_SUCCESS
    with pytest.raises(ControlRefused, match="with a ticket; such are: "):
        control.act("expire_ticket", transfer=transfer.id)
    transfer = client.download(disk_id)
    control.act("expire_ticket", transfer=transfer.id, how="gone")
    with pytest.raises(Exception, match="No such ticket"):
        read(fault_lab, transfer)
    client.wait_transfer(transfer.id, lambda t: t.phase == Phase.FINISHED_FAILURE)
    assert {1065, 1034} <= {event.code for event in client.system.events_service().list(max=20)}


def test_imageio_is_killed_and_started_again(
    fault_lab: RunningLab, control: LabControl, client: Client, disk_id: str
) -> None:
    transfer = client.upload(disk_id)
    assert control.act("restart_imageio")["url"] == fault_lab.imageio
    client.wait_transfer(transfer.id, lambda t: t.phase == Phase.PAUSED_SYSTEM)
    client.finalize(transfer.id)
    transfer = client.download(disk_id)
    assert read(fault_lab, transfer) == MIB
    client.finalize(transfer.id)
    wait_for(lambda: client.system.disks_service().disk_service(disk_id).get().status, "the disk is there")


def test_disk_that_fills_up_while_it_is_restored(
    fault_lab: RunningLab, control: LabControl, client: Client, disk_id: str
) -> None:
    with control.fault("disk_full", disk=disk_id, bytes=MIB) as fault:
        transfer = client.upload(disk_id)
        with opened(fault_lab, transfer) as imageio:
            imageio.write(0, os.urandom(MIB // 2))
            # imageio tells the client no more than that; its own log tells of the missing space.
            with pytest.raises(Exception, match="Server failed to perform the request"):
                imageio.write(MIB, os.urandom(MIB))
        assert "No space left on device" in (fault_lab.dir / "log" / "imageio-host.log").read_text()
        assert fault.struck == 1
        assert client.finalize(transfer.id).phase == Phase.FINISHED_SUCCESS
    transfer = client.upload(disk_id)
    with opened(fault_lab, transfer) as imageio:
        imageio.write(0, os.urandom(4 * MIB))
    assert client.finalize(transfer.id).phase == Phase.FINISHED_SUCCESS


def test_scratch_disk_that_fills_up(fault_lab: RunningLab, control: LabControl, client: Client) -> None:
    """QEMU keeps the backup whole and fails the guest's write, at which the machine is paused."""
    vm_id = fault_lab.vm("web-01").id
    with control.fault("scratch_full", disk="web-01_disk1"):
        backup = client.start_backup(vm_id)
        service = client.vm(vm_id)
        wait_for(lambda: service.get().status == types.VmStatus.PAUSED, "the VM is paused")
    assert 138 in [event.code for event in client.system.events_service().list(max=20)]
    transfer = client.download(client.disk_ids(vm_id)[0], backup_id=backup.id)
    assert read(fault_lab, transfer) == MIB
    client.finalize(transfer.id)
    assert client.end_backup(vm_id, backup.id).phase == types.BackupPhase.SUCCEEDED
    service.stop()
    client.set_power(vm_id, False)
    client.set_power(vm_id, True)
    backup = client.start_backup(vm_id)
    assert client.end_backup(vm_id, backup.id).phase == types.BackupPhase.SUCCEEDED


def test_storage_domain_without_space(fault_lab: RunningLab, control: LabControl, client: Client) -> None:
    def available() -> int:
        return client.system.storage_domains_service().list()[0].available

    before = available()
    vm_id = fault_lab.vm("web-01").id
    with control.fault("domain_full", domain="data-01"):
        assert available() == 0
        text = r"\[Cannot add Virtual Disk. Low disk space on Storage Domain data-01.\]"
        with pytest.raises(sdk.Error, match=text) as caught:
            client.add_disk(MIB, "too-much")
        assert caught.value.code == 409
        backup = client.start_backup(vm_id)
        assert backup.phase == types.BackupPhase.FAILED
        assert 10806 in [code for code, _ in client.events(backup.id)]
    assert available() == before > 0
    disk_id = client.add_disk(MIB, "fits")
    client.system.disks_service().disk_service(disk_id).remove()
