# SPDX-License-Identifier: GPL-3.0-or-later
"""The CD drive that every machine has."""

import ovirtsdk4 as sdk
import pytest
from ovirtsdk4 import types

from tests.lab_api.support import Client, wait_for
from tests.lab_support import RunningLab

pytestmark = pytest.mark.lab
MIB = 1 << 20


def test_a_disc_for_the_next_start_and_one_for_now(api_lab: RunningLab, client: Client) -> None:
    vm_id = api_lab.vm("web-01").id
    iso = client.add_disk(MIB, "disc", content_type=types.DiskContentType.ISO, format=types.DiskFormat.RAW)
    drives = client.vm(vm_id).cdroms_service()
    (drive,) = drives.list()
    assert drive.file is None
    service = drives.cdrom_service(drive.id)
    disc = types.Cdrom(file=types.File(id=iso))
    assert service.update(disc, current=True).file.id == iso
    assert (service.get(current=True).file.id, service.get().file) == (iso, None)
    assert service.update(types.Cdrom(file=types.File(id="")), current=True).file is None
    assert service.update(disc).file.id == iso
    service.update(types.Cdrom(file=types.File(id="")))
    assert drives.list()[0].file is None
    disks = client.system.disks_service()
    disks.disk_service(iso).remove()
    wait_for(lambda: client.is_gone(disks.disk_service(iso)), "the disc is gone")


def test_what_is_no_disc_is_refused(api_lab: RunningLab, client: Client) -> None:
    running, stopped = api_lab.vm("web-01").id, api_lab.vm("files-01").id
    (disk_id,) = client.disk_ids(stopped)
    drive = client.vm(running).cdroms_service().list()[0].id
    with pytest.raises(sdk.Error, match="ISO image does not exist"):
        client.vm(running).cdroms_service().cdrom_service(drive).update(
            types.Cdrom(file=types.File(id=disk_id)), current=True
        )
    with pytest.raises(sdk.Error, match="VM is not running"):
        client.vm(stopped).cdroms_service().cdrom_service(drive).update(
            types.Cdrom(file=types.File(id="")), current=True
        )
