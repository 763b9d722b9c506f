# SPDX-License-Identifier: GPL-3.0-or-later
"""Ways to talk to a lab in tests: raw HTTPS, and the SDK with waits."""

import base64
import json
import ssl
import time
import urllib.error
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import ovirtsdk4 as sdk
from ovirtsdk4 import types

from tests.lab_support import RunningLab

T = TypeVar("T")
WAIT_SECONDS = 30.0


def wait_for(what: Callable[[], T | None], message: str, seconds: float = WAIT_SECONDS) -> T:
    """The first true value of `what()`; fails the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = what()
        if value:
            return value
        assert time.monotonic() < deadline, f"waited in vain: {message}"
        time.sleep(0.03)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def xml(self) -> ET.Element:
        return ET.fromstring(self.body)

    def text(self, path: str) -> str | None:
        return self.xml.findtext(path)


class Rest:
    """Raw requests with basic authentication; `path` is relative to the API's root."""

    def __init__(self, lab: RunningLab) -> None:
        self.lab = lab
        self.context = ssl.create_default_context(cafile=lab.ca_file)
        pair = base64.b64encode(f"{lab.username}:{lab.password}".encode()).decode()
        self.basic = f"Basic {pair}"

    def call(
        self,
        method: str,
        path: str,
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        auth: bool = True,
        url: str | None = None,
    ) -> Answer:
        data = body.encode() if isinstance(body, str) else body
        sent = {"Content-Type": "application/xml", "Accept": "application/xml", **(headers or {})}
        if auth:
            sent.setdefault("Authorization", self.basic)
        request = urllib.request.Request(url or self.lab.api + path, data=data, headers=sent, method=method)
        try:
            with urllib.request.urlopen(request, context=self.context, timeout=30) as response:
                return Answer(response.status, dict(response.headers), response.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, dict(error.headers), error.read())

    def get(self, path: str, **headers: str) -> Answer:
        return self.call("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})

    def post(self, path: str, body: str = "<action/>") -> Answer:
        return self.call("POST", path, body)

    def delete(self, path: str) -> Answer:
        return self.call("DELETE", path)

    def json(self, url: str) -> Any:
        with urllib.request.urlopen(url, context=self.context, timeout=60) as response:
            return json.loads(response.read())


def connect(lab: RunningLab, password: str | None = None) -> AbstractContextManager[sdk.Connection]:
    @contextmanager
    def opened() -> Iterator[sdk.Connection]:
        connection = sdk.Connection(
            url=lab.api, username=lab.username, password=password or lab.password, ca_file=lab.ca_file
        )
        try:
            yield connection
        finally:
            connection.close()

    return opened()


class Client:
    """The flows of the tests, through the SDK."""

    def __init__(self, connection: sdk.Connection) -> None:
        self.connection = connection
        self.system = connection.system_service()

    def vm(self, vm_id: str) -> Any:
        return self.system.vms_service().vm_service(vm_id)

    def disk_ids(self, vm_id: str) -> list[str]:
        return [a.disk.id for a in self.vm(vm_id).disk_attachments_service().list()]

    def start_backup(
        self,
        vm_id: str,
        disk_ids: list[str] | None = None,
        since: str | None = None,
        query: dict[str, str] | None = None,
        **more: Any,
    ) -> Any:
        """The backup, `ready` or over. `query`: what goes into the request's address."""
        disks = [types.Disk(id=disk_id) for disk_id in disk_ids or self.disk_ids(vm_id)]
        backups = self.vm(vm_id).backups_service()
        backup = backups.add(types.Backup(disks=disks, from_checkpoint_id=since, **more), query=query)
        service = backups.backup_service(backup.id)
        over = (types.BackupPhase.READY, types.BackupPhase.FAILED, types.BackupPhase.SUCCEEDED)

        def ready() -> Any:
            found = service.get()
            return found if found.phase in over else None

        return wait_for(ready, "the backup is ready")

    def end_backup(self, vm_id: str, backup_id: str) -> Any:
        service = self.vm(vm_id).backups_service().backup_service(backup_id)
        service.finalize()
        over = (types.BackupPhase.FAILED, types.BackupPhase.SUCCEEDED)

        def ended() -> Any:
            found = service.get()
            return found if found.phase in over else None

        return wait_for(ended, "the backup is over")

    def start_transfer(self, **values: Any) -> Any:
        """The transfer, out of `initializing`."""
        values.setdefault("format", types.DiskFormat.RAW)
        if "disk_id" in values:
            values["disk"] = types.Disk(id=values.pop("disk_id"))
        if "backup_id" in values:
            values["backup"] = types.Backup(id=values.pop("backup_id"))
        transfer = self.system.image_transfers_service().add(types.ImageTransfer(**values))
        return self.wait_transfer(transfer.id, lambda t: t.phase != types.ImageTransferPhase.INITIALIZING)

    def download(self, disk_id: str, **values: Any) -> Any:
        return self.start_transfer(disk_id=disk_id, direction=types.ImageTransferDirection.DOWNLOAD, **values)

    def upload(self, disk_id: str, **values: Any) -> Any:
        return self.start_transfer(disk_id=disk_id, direction=types.ImageTransferDirection.UPLOAD, **values)

    def transfer(self, transfer_id: str) -> Any:
        return self.system.image_transfers_service().image_transfer_service(transfer_id)

    def wait_transfer(self, transfer_id: str, wanted: Callable[[Any], bool]) -> Any:
        def found() -> Any:
            transfer = self.transfer(transfer_id).get()
            return transfer if wanted(transfer) else None

        return wait_for(found, "the transfer is where it should be")

    def finalize(self, transfer_id: str) -> Any:
        self.transfer(transfer_id).finalize()
        ends = (types.ImageTransferPhase.FINISHED_SUCCESS, types.ImageTransferPhase.FINISHED_FAILURE)
        return self.wait_transfer(transfer_id, lambda t: t.phase in ends)

    def add_disk(self, size: int, name: str = "new", **values: Any) -> str:
        """A floating disk that is `ok`; its id."""
        values.setdefault("format", types.DiskFormat.COW)
        values.setdefault("sparse", True)
        disks = self.system.disks_service()
        domains = [types.StorageDomain(name="data-01")]
        disk = disks.add(types.Disk(name=name, provisioned_size=size, storage_domains=domains, **values))
        self.wait_disk(disk.id)
        return disk.id

    def wait_disk(self, disk_id: str) -> None:
        service = self.system.disks_service().disk_service(disk_id)
        wait_for(lambda: service.get().status == types.DiskStatus.OK, "the disk is ok")

    def is_gone(self, service: Any) -> bool:
        try:
            service.get()
        except sdk.NotFoundError:
            return True
        return False

    def set_power(self, vm_id: str, up: bool) -> None:
        """Start or shut down, and wait; nothing if it is so already."""
        service = self.vm(vm_id)
        wanted = types.VmStatus.UP if up else types.VmStatus.DOWN
        if service.get().status != wanted:
            (service.start if up else service.shutdown)()
        wait_for(lambda: service.get().status == wanted, f"the VM is {wanted}")

    def events(self, search: str) -> list[tuple[int, str]]:
        return [(e.code, e.description) for e in self.system.events_service().list(search=search)]
