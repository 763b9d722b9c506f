# SPDX-License-Identifier: GPL-3.0-or-later
"""An account that may not see or do everything, and a Manager whose clock is wrong."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import ovirtsdk4 as sdk
import pytest
from ovirtsdk4 import types

from tests.lab_api.support import Client, Rest, connect
from tests.lab_support import ControlRefused, LabControl, RunningLab

pytestmark = pytest.mark.lab
MIB = 1 << 20
AN_HOUR = 3600


@pytest.fixture
def client(fault_lab: RunningLab) -> Iterator[Client]:
    with connect(fault_lab) as connection:
        yield Client(connection)


def test_what_may_not_be_seen_is_missing_without_a_word(
    fault_lab: RunningLab, control: LabControl, client: Client
) -> None:
    vms = client.system.vms_service()
    web = fault_lab.vm("web-01").id
    with control.fault("hidden") as fault:
        assert vms.list() == []
        assert client.is_gone(vms.vm_service(web))
        with pytest.raises(sdk.NotFoundError):
            vms.vm_service(web).nics_service().list()
        assert client.system.disks_service().list()
        assert fault.struck == 3
    assert len(vms.list()) == 5
    with control.fault("hidden", which=web):
        assert "web-01" not in [vm.name for vm in vms.list()]
        assert len(vms.list()) == 4
        assert client.is_gone(vms.vm_service(web))
        assert vms.vm_service(fault_lab.vm("db-01").id).get().name == "db-01"
    with control.fault("hidden", path="/vms/*/diskattachments"):
        assert vms.vm_service(web).disk_attachments_service().list() == []
    assert vms.vm_service(web).disk_attachments_service().list()


def test_missing_permits(fault_lab: RunningLab, control: LabControl, client: Client) -> None:
    files = fault_lab.vm("files-01").id
    with control.fault("forbidden", permit="BACKUP_DISK"):
        with pytest.raises(sdk.AuthError, match="User is not authorized to perform this action") as caught:
            client.start_backup(files)
        assert caught.value.code == 403
        disk_id = client.add_disk(MIB, "allowed")
    transfer = client.download(disk_id)
    with control.fault("forbidden", permit="CREATE_DISK", on="system"):
        other = client.add_disk(MIB, "also-allowed")
        with pytest.raises(sdk.AuthError):
            client.transfer(transfer.id).finalize()
        with pytest.raises(sdk.AuthError):
            client.transfer(transfer.id).extend()
        assert client.transfer(transfer.id).get().phase == types.ImageTransferPhase.TRANSFERRING
    with control.fault("forbidden", permit="CREATE_DISK"), pytest.raises(sdk.AuthError):
        client.add_disk(MIB, "forbidden")
    with control.fault("forbidden", permit="EDIT_DISK_PROPERTIES"), pytest.raises(sdk.AuthError):
        client.download(other)
    assert client.finalize(transfer.id).phase == types.ImageTransferPhase.FINISHED_SUCCESS
    backup = client.start_backup(files)
    assert client.end_backup(files, backup.id).phase == types.BackupPhase.SUCCEEDED
    for each in (disk_id, other):
        client.system.disks_service().disk_service(each).remove()
    with pytest.raises(ControlRefused, match="must be one of ATTACH_DISK, BACKUP_DISK"):
        control.fault("forbidden", permit="EVERYTHING")


@pytest.mark.parametrize("seconds", [AN_HOUR, -AN_HOUR])
def test_clock_beside_the_time(
    fault_lab: RunningLab, control: LabControl, client: Client, seconds: int
) -> None:
    files = fault_lab.vm("files-01").id

    def off(moment: datetime) -> bool:
        return abs(moment - datetime.now(UTC) - timedelta(seconds=seconds)) < timedelta(minutes=10)

    with control.fault("clock", seconds=seconds) as fault:
        answer = Rest(fault_lab).get("")
        assert off(parsedate_to_datetime(answer.headers["Date"]))
        assert off(datetime.fromisoformat(answer.text("time") or ""))
        backup = client.start_backup(files)
        assert off(backup.creation_date)
        client.end_backup(files, backup.id)
        checkpoint = client.vm(files).checkpoints_service().checkpoint_service(backup.to_checkpoint_id).get()
        assert off(checkpoint.creation_date)
        assert off(client.system.events_service().list(max=1)[0].time)
        assert fault.struck == 1
    assert not off(datetime.fromisoformat(Rest(fault_lab).get("").text("time") or ""))
