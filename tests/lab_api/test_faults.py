# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults on demand: answers that go wrong, things that happen to machines, disks and records. Each strikes as asked,
and the lab answers as ever afterwards."""

import uuid
from collections.abc import Iterator

import ovirtsdk4 as sdk
import pytest
from ovirtsdk4 import types

from tests.lab_api.support import Client, Rest, connect, wait_for
from tests.lab_support import ControlRefused, LabControl, RunningLab

pytestmark = pytest.mark.lab
MIB = 1 << 20
# How the SDK tells of a connection that broke.
UNREAD = "Failed to read response"


@pytest.fixture(scope="module")
def rest(fault_lab: RunningLab) -> Rest:
    return Rest(fault_lab)


@pytest.fixture
def client(fault_lab: RunningLab) -> Iterator[Client]:
    with connect(fault_lab) as connection:
        yield Client(connection)


def test_endpoint_describes_itself_and_says_what_it_does_not_know(control: LabControl) -> None:
    described = control.describe()
    assert "status" in described["faults"]["answer"]["fields"]
    assert described["actions"]["power_off"]["fields"]["vm"]["required"] is True
    for fields, text in (
        ({"fault": "answr"}, "There is no fault 'answr'; there are answer"),
        (
            {"fault": "answer", "status": 500, "pth": "/"},
            "has no pth; it takes after, detail, how, method, path",
        ),
        ({"fault": "answer"}, "needs its status"),
        ({"fault": "answer", "status": 200}, "between 400 and 599"),
        ({"fault": "answer", "status": "500"}, "status of the fault answer must be a whole number"),
        ({"fault": "answer", "how": "loud"}, "must be one of error, cut, lost"),
        ({"fault": "answer", "status": 500, "times": 0}, "must be at least 1"),
    ):
        with pytest.raises(ControlRefused, match=text):
            control.fault(fields.pop("fault"), **fields)
    with pytest.raises(ControlRefused, match="There is no action 'explode'; there are break_bitmap"):
        control.act("explode")
    with pytest.raises(ControlRefused, match="needs vm"):
        control.act("power_off")
    with pytest.raises(ControlRefused, match="There is no VM 'nobody'; there are web-01"):
        control.act("power_off", vm="nobody")
    with pytest.raises(ControlRefused, match="There is no fault '999'"):
        control._request("DELETE", "/faults/999")
    with pytest.raises(ControlRefused, match="There are GET /, /faults"):
        control._request("GET", "/elsewhere")


def test_error_strikes_after_so_many_and_so_often(control: LabControl, rest: Rest) -> None:
    with control.fault("answer", method="GET", path="/vms/*", status=500, after=1, times=2) as fault:
        vm = f"/vms/{rest.lab.vm('web-01').id}"
        assert [rest.get(vm).status for _ in range(4)] == [200, 500, 500, 200]
        assert rest.get("/vms").status == 200
        assert rest.get(f"{vm}/nics").status == 200
        (told,) = control.faults()
        assert (told["struck"], told["seen"], told["id"]) == (2, 3, fault.id)
    with control.fault("answer", path="/vms/**", status=500):
        assert rest.get(f"{vm}/nics").status == 500
        assert rest.get(f"{vm};max=1/nics;max=1").status == 500
        assert rest.get("/v4/vms").status == 500
        assert rest.get("/disks").status == 200
    assert rest.get(vm).status == 200


def test_errors_have_the_engines_shapes(control: LabControl, rest: Rest) -> None:
    with control.fault("answer", path="/clusters", status=500):
        answer = rest.get("/clusters")
        assert (answer.text("reason"), answer.text("detail")) == (
            "Operation Failed",
            "[Internal Engine Error]",
        )
    with control.fault("answer", path="/clusters", status=503, shape="html"):
        answer = rest.get("/clusters")
        assert (answer.status, answer.headers["Content-Type"].partition(";")[0]) == (503, "text/html")
        assert b"Service Unavailable" in answer.body
    with control.fault("answer", path="/clusters", status=404):
        assert (rest.get("/clusters").status, rest.get("/clusters").body) == (404, b"")
    text = "[Cannot start VM. It is Monday.]"
    with control.fault("answer", method="POST", path="/vms/*/start", status=409, detail=text):
        answer = rest.post(f"/vms/{rest.lab.vm('legacy-01').id}/start")
        assert (answer.status, answer.xml.tag, answer.text("fault/detail")) == (409, "action", text)
    assert rest.get("/clusters").status == 200


def test_401_is_a_lost_session_that_the_sdk_renews(control: LabControl, client: Client) -> None:
    assert client.system.clusters_service().list()
    with control.fault("answer", path="/clusters", status=401, times=1) as fault:
        assert client.system.clusters_service().list()
        assert fault.struck == 1
    assert control.act("end_sessions")["sessions"] >= 1
    assert client.system.clusters_service().list()
    assert control.act("end_sessions")["sessions"] >= 1
    token = "/ovirt-engine/sso/oauth/token"
    with control.fault("answer", path=token, status=503, shape="html"), pytest.raises(sdk.Error):
        client.system.clusters_service().list()
    assert client.system.clusters_service().list()


def test_lost_answer_to_a_post_that_succeeded(control: LabControl, client: Client) -> None:
    name = f"lost-{uuid.uuid4().hex[:6]}"
    disks = client.system.disks_service()
    of = {"method": "POST", "path": "/disks"}
    with control.fault("answer", how="lost", **of), pytest.raises(sdk.Error, match=UNREAD):
        client.add_disk(MIB, name)
    found = disks.list(search=f"name={name}")
    assert found
    with control.fault("answer", how="cut", **of), pytest.raises(sdk.Error, match=UNREAD):
        client.add_disk(MIB, name + "-cut")
    assert disks.list(search=f"name={name}-cut") == []
    # libcurl repeats a request, also a POST, when a kept connection ends without a byte of answer.
    with control.fault("answer", how="lost", times=1, **of):
        client.add_disk(MIB, name + "-twice")
    found += disks.list(search=f"name={name}-twice")
    assert len(found) == 3
    for disk in found:
        client.wait_disk(disk.id)
        disks.disk_service(disk.id).remove()


def test_slow_truncated_and_garbage_answers(
    fault_lab: RunningLab, control: LabControl, client: Client
) -> None:
    patient = client.system.clusters_service()
    impatient = sdk.Connection(
        url=fault_lab.api,
        username=fault_lab.username,
        password=fault_lab.password,
        ca_file=fault_lab.ca_file,
        timeout=1,
    )
    with control.fault("answer", path="/clusters", how="slow") as fault:
        with pytest.raises(sdk.Error, match="28"):
            impatient.system_service().clusters_service().list()
        assert fault.struck == 1
    with control.fault("answer", path="/clusters", how="slow", seconds=0.1):
        assert patient.list()
    with control.fault("answer", path="/clusters", how="truncated"), pytest.raises(sdk.Error, match=UNREAD):
        patient.list()
    # The SDK's reader raises a bare Exception at XML that breaks off.
    with (
        control.fault("answer", path="/clusters", how="garbage"),
        pytest.raises(Exception, match="next element"),
    ):
        patient.list()
    assert patient.list()
    impatient.close()


def test_power_cut_during_a_live_backup(fault_lab: RunningLab, control: LabControl, client: Client) -> None:
    vm = fault_lab.vm("mail-01")
    first = client.start_backup(vm.id)
    checkpoint = first.to_checkpoint_id
    client.end_backup(vm.id, first.id)
    backup = client.start_backup(vm.id, since=checkpoint)
    control.act("power_off", vm="mail-01")
    service = client.vm(vm.id)
    wait_for(lambda: service.get().status == types.VmStatus.DOWN, "the engine notices")
    gone = service.backups_service().backup_service(backup.id)
    wait_for(lambda: gone.get().phase == types.BackupPhase.FAILED, "the backup failed")
    assert [c.id for c in service.checkpoints_service().list()] == [checkpoint]
    assert 119 in [event.code for event in client.system.events_service().list(max=20)]
    with pytest.raises(ControlRefused, match="VM mail-01 is not running"):
        control.act("power_off", vm=vm.id)
    client.set_power(vm.id, True)
    broken = client.start_backup(vm.id, since=checkpoint)
    assert broken.phase == types.BackupPhase.FAILED
    assert service.checkpoints_service().list() == []
    again = client.start_backup(vm.id)
    assert client.end_backup(vm.id, again.id).phase == types.BackupPhase.SUCCEEDED


@pytest.mark.parametrize("how", ["in_use", "missing"])
def test_broken_bitmap_of_a_running_vm(
    fault_lab: RunningLab, control: LabControl, client: Client, how: str
) -> None:
    vm_id = fault_lab.vm("db-01").id
    backup = client.start_backup(vm_id)
    client.end_backup(vm_id, backup.id)
    told = control.act("break_bitmap", vm="db-01", how=how)
    assert (told["checkpoint"], len(told["disks"])) == (backup.to_checkpoint_id, 2)
    broken = client.start_backup(vm_id, since=backup.to_checkpoint_id)
    assert broken.phase == types.BackupPhase.FAILED
    assert 10791 in [code for code, _ in client.events(broken.id)]
    assert client.vm(vm_id).checkpoints_service().list() == []
    full = client.start_backup(vm_id)
    client.end_backup(vm_id, full.id)
    increment = client.start_backup(vm_id, since=full.to_checkpoint_id)
    assert increment.phase == types.BackupPhase.READY
    client.end_backup(vm_id, increment.id)


@pytest.mark.parametrize("how", ["in_use", "missing"])
def test_broken_bitmap_of_a_vm_that_is_down(
    fault_lab: RunningLab, control: LabControl, client: Client, how: str
) -> None:
    """Told only by the transfer, which ends in failure."""
    vm_id = fault_lab.vm("files-01").id
    backup = client.start_backup(vm_id)
    client.end_backup(vm_id, backup.id)
    control.act("break_bitmap", vm="files-01", how=how, disk="files-01_disk1")
    second = client.start_backup(vm_id, since=backup.to_checkpoint_id)
    assert second.phase == types.BackupPhase.READY
    transfer = client.download(client.disk_ids(vm_id)[0], backup_id=second.id)
    ended = client.wait_transfer(transfer.id, lambda t: t.phase == types.ImageTransferPhase.FINISHED_FAILURE)
    assert ended.transfer_url is None
    client.end_backup(vm_id, second.id)
    checkpoints = client.vm(vm_id).checkpoints_service()
    for checkpoint in checkpoints.list():
        checkpoints.checkpoint_service(checkpoint.id).remove()
        wait_for(
            lambda: client.is_gone(checkpoints.checkpoint_service(checkpoint.id)), "the checkpoint is removed"
        )
    full = client.start_backup(vm_id)
    assert client.end_backup(vm_id, full.id).phase == types.BackupPhase.SUCCEEDED


def test_locked_illegal_and_lost_disks(control: LabControl, client: Client) -> None:
    disk_id = client.add_disk(MIB, "victim")
    service = client.system.disks_service().disk_service(disk_id)
    control.act("lock_disk", disk="victim")
    with pytest.raises(sdk.Error, match="The following disks are locked: victim"):
        client.download(disk_id)
    control.act("lock_disk", disk=disk_id, status="illegal")
    with pytest.raises(sdk.Error, match="ILLEGAL status: victim"):
        client.download(disk_id)
    control.act("unlock_disk", disk=disk_id)
    assert service.get().status == types.DiskStatus.OK
    client.finalize(client.download(disk_id).id)
    control.act("delete_disk", disk=disk_id)
    assert client.is_gone(service)
    with pytest.raises(ControlRefused, match="web-01_disk1 is in use by a running VM"):
        control.act("delete_disk", disk="web-01_disk1")


def test_forgotten_records(fault_lab: RunningLab, control: LabControl, client: Client) -> None:
    vm_id = fault_lab.vm("files-01").id
    backup = client.start_backup(vm_id)
    with pytest.raises(ControlRefused, match="is not over"):
        control.act("forget_record", kind="backup", id=backup.id)
    transfer = client.download(client.disk_ids(vm_id)[0], backup_id=backup.id)
    client.finalize(transfer.id)
    client.end_backup(vm_id, backup.id)
    control.act("forget_record", kind="transfer", id=transfer.id)
    assert client.is_gone(client.transfer(transfer.id))
    control.act("forget_record", kind="backup", id=backup.id)
    assert client.is_gone(client.vm(vm_id).backups_service().backup_service(backup.id))
    control.act("forget_record", kind="checkpoint", id=backup.to_checkpoint_id)
    with pytest.raises(sdk.Error, match=r"Checkpoint ID .* doesn't exist"):
        client.start_backup(vm_id, since=backup.to_checkpoint_id)
    with pytest.raises(ControlRefused, match="There is no backup"):
        control.act("forget_record", kind="backup", id=backup.id)


def test_records_that_are_forgotten_at_the_end(
    fault_lab: RunningLab, control: LabControl, client: Client
) -> None:
    vm_id = fault_lab.vm("files-01").id
    backup = client.start_backup(vm_id)
    transfer = client.download(client.disk_ids(vm_id)[0], backup_id=backup.id)
    with control.fault("forget", of="transfer"):
        client.transfer(transfer.id).finalize()
        wait_for(lambda: client.is_gone(client.transfer(transfer.id)), "the transfer is forgotten")
    service = client.vm(vm_id).backups_service().backup_service(backup.id)
    with control.fault("forget", of="backup", which=backup.id) as fault:
        service.finalize()
        wait_for(lambda: client.is_gone(service), "the backup is forgotten")
        assert fault.struck == 1
    assert 10793 in [code for code, _ in client.events(backup.id)]
    backup = client.start_backup(vm_id)
    assert client.end_backup(vm_id, backup.id).phase == types.BackupPhase.SUCCEEDED


def test_manager_goes_away_during_a_backup_and_comes_back(
    fault_lab: RunningLab, control: LabControl, client: Client
) -> None:
    vm_id = fault_lab.vm("files-01").id
    disks = [types.Disk(id=disk_id) for disk_id in client.disk_ids(vm_id)]
    backups = client.vm(vm_id).backups_service()
    with control.fault("phase", of="backup", phase="ADDING_BITMAPS", which="files-01") as fault:
        service = backups.backup_service(backups.add(types.Backup(disks=disks)).id)
        fault.wait_struck()
        control.act("stop_manager")
        with pytest.raises(ControlRefused, match="down already"):
            control.act("restart_manager")
    with pytest.raises(sdk.Error, match=r"Connection refused|Couldn't connect|Failed to connect"):
        service.get()
    assert control.act("start_manager")["orphans"] == []
    wait_for(lambda: service.get().phase == types.BackupPhase.READY, "the command went on")
    control.act("restart_manager", seconds=0.3)

    def answers() -> bool:
        try:
            return service.get().phase == types.BackupPhase.READY
        except sdk.Error:
            return False

    wait_for(answers, "the Manager is back")
    assert client.end_backup(vm_id, service.get().id).phase == types.BackupPhase.SUCCEEDED
    with pytest.raises(ControlRefused, match="The Manager is up"):
        control.act("start_manager")


def test_backup_that_nobody_watches_after_a_restart(
    fault_lab: RunningLab, control: LabControl, client: Client
) -> None:
    vm_id = fault_lab.vm("mail-01").id
    backup = client.start_backup(vm_id)
    control.act("stop_manager")
    assert control.act("start_manager", orphan_backups=True)["orphans"] == [backup.id]
    found = client.vm(vm_id).backups_service().backup_service(backup.id).get()
    assert found.phase == types.BackupPhase.FAILED
    assert 10814 in [code for code, _ in client.events(backup.id)]
    with pytest.raises(sdk.Error, match="disks are locked"):
        client.start_backup(vm_id)
    for disk_id in client.disk_ids(vm_id):
        control.act("unlock_disk", disk=disk_id)
    client.set_power(vm_id, False)
    client.set_power(vm_id, True)
    again = client.start_backup(vm_id)
    assert client.end_backup(vm_id, again.id).phase == types.BackupPhase.SUCCEEDED
