# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots that clients take and remove, and the volumes of which they consist."""

import uuid
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ovirtsdk4 as sdk
import pytest
from ovirt_imageio.client import ImageioClient
from ovirtsdk4 import types

from tests.judges.images import assert_equal, volume_file
from tests.lab_api.support import Client, Rest, wait_for
from tests.lab_data.support import save_all
from tests.lab_support import RunningLab

pytestmark = pytest.mark.lab
MIB = 1 << 20
Status, Kind = types.SnapshotStatus, types.SnapshotType


@pytest.fixture(autouse=True)
def _leaves_no_snapshot(api_lab: RunningLab, client: Client) -> Iterator[None]:
    """What a test leaves is removed, and no second volume of a disk stays behind."""
    yield
    for name in ("web-01", "files-01", "mail-01"):
        vm_id = api_lab.vm(name).id
        for snapshot in regular(client, vm_id):
            remove(client, vm_id, snapshot.id)
        for disk_id in client.disk_ids(vm_id):
            assert len(volumes(client, disk_id)) == 1


def snapshots_of(client: Client, vm_id: str) -> Any:
    return client.vm(vm_id).snapshots_service()


def regular(client: Client, vm_id: str) -> list[Any]:
    return [each for each in snapshots_of(client, vm_id).list() if each.snapshot_type == Kind.REGULAR]


def volumes(client: Client, disk_id: str, active: bool = True) -> list[Any]:
    """The oldest first."""
    service = client.system.disks_service().disk_service(disk_id).disk_snapshots_service()
    return list(service.list(query={"include_active": str(active).lower()}))


def post(client: Client, vm_id: str, description: str | None = "mine", **more: Any) -> Any:
    """As it is right after the POST."""
    snapshot = types.Snapshot(description=description, **{"persist_memorystate": False, **more})
    return snapshots_of(client, vm_id).add(snapshot)


def of_disks(*disk_ids: str) -> list[types.DiskAttachment]:
    return [types.DiskAttachment(disk=types.Disk(id=disk_id)) for disk_id in disk_ids]


def wait_ok(client: Client, vm_id: str, snapshot_id: str) -> Any:
    service = snapshots_of(client, vm_id).snapshot_service(snapshot_id)

    def taken() -> Any:
        found = service.get()
        return found if found.snapshot_status == Status.OK else None

    return wait_for(taken, "the snapshot is ok")


def take(client: Client, vm_id: str, description: str = "mine", **more: Any) -> Any:
    return wait_ok(client, vm_id, post(client, vm_id, description, **more).id)


def remove(client: Client, vm_id: str, snapshot_id: str) -> None:
    service = snapshots_of(client, vm_id).snapshot_service(snapshot_id)
    service.remove()
    wait_for(lambda: client.is_gone(service), "the snapshot is gone")


def refusal(do: Any) -> tuple[int, str]:
    with pytest.raises(sdk.Error) as caught:
        do()
    return caught.value.code, caught.value.fault.detail


def event_codes(client: Client, since: int) -> list[int]:
    """Codes of the events after that one, the oldest first."""
    found = client.system.events_service().list(max=50)
    return [event.code for event in reversed(found) if int(event.id) > since]


def newest_event(client: Client) -> int:
    return max((int(event.id) for event in client.system.events_service().list(max=1)), default=0)


@pytest.mark.parametrize("name", ["web-01", "files-01"])
def test_from_its_taking_to_its_merge(api_lab: RunningLab, client: Client, name: str) -> None:
    vm_id = api_lab.vm(name).id
    (disk_id,) = client.disk_ids(vm_id)
    disk = client.system.disks_service().disk_service(disk_id)
    before, newest = disk.get().image_id, newest_event(client)
    (active,) = snapshots_of(client, vm_id).list()
    assert (active.snapshot_type, active.description) == (Kind.ACTIVE, "Active VM")
    with api_lab.control.fault("phase", of="snapshot", phase="creation", which=name) as fault:
        new = post(client, vm_id)
        assert (new.snapshot_status, new.snapshot_type, new.vm.id) == (Status.LOCKED, Kind.REGULAR, vm_id)
        fault.wait_struck()
        assert disk.get().status == types.DiskStatus.LOCKED
    taken = wait_ok(client, vm_id, new.id)
    assert (taken.description, taken.persist_memorystate) == ("mine", False)
    kinds = [each.snapshot_type for each in snapshots_of(client, vm_id).list()]
    assert sorted(kind.value for kind in kinds) == ["active", "regular"]
    assert disk.get().status == types.DiskStatus.OK
    (frozen,) = snapshots_of(client, vm_id).snapshot_service(taken.id).disks_service().list()
    assert (frozen.id, frozen.image_id, frozen.snapshot.id) == (disk_id, before, taken.id)
    assert disk.get().image_id != before
    with api_lab.control.fault("phase", of="snapshot", phase="merge", which=name) as fault:
        service = snapshots_of(client, vm_id).snapshot_service(taken.id)
        service.remove()
        fault.wait_struck()
        assert service.get().snapshot_status == Status.LOCKED
    wait_for(lambda: client.is_gone(service), "the snapshot is gone")
    assert disk.get().image_id == before
    seen = [code for code in event_codes(client, newest) if code in (45, 68, 342, 356)]
    assert seen == [45, 68, 342, 356]


def test_its_ovf_is_in_the_answer_and_on_request(api_lab: RunningLab, client: Client, rest: Rest) -> None:
    vm_id = api_lab.vm("files-01").id
    (disk_id,) = client.disk_ids(vm_id)
    image_id = volumes(client, disk_id)[0].id
    new = post(client, vm_id)
    ovf = new.initialization.configuration.data
    assert ET.fromstring(ovf).findtext(".//{*}Content/Name") == "files-01"
    assert disk_id in ovf and image_id in ovf
    wait_ok(client, vm_id, new.id)
    path = f"/vms/{vm_id}/snapshots/{new.id}"
    assert rest.get(path).xml.find("initialization") is None
    for answer in (rest.get(f"{path}?all_content=true"), rest.get(path, All_Content="true")):
        assert answer.text("initialization/configuration/type") == "ovf"
        assert answer.text("initialization/configuration/data") == ovf
    listed = rest.get(f"/vms/{vm_id}/snapshots?all_content=true").xml
    assert len(listed.findall("snapshot/initialization/configuration/data")) == 2


def test_memory_is_asked_for_unless_the_client_says_no(api_lab: RunningLab, client: Client) -> None:
    """Marked so for a machine that is up; one that is down has none."""
    for name, marked in (("web-01", True), ("files-01", False)):
        taken = take(client, api_lab.vm(name).id, persist_memorystate=None)
        assert taken.persist_memorystate is marked


def test_some_disks(api_lab: RunningLab, client: Client) -> None:
    vm_id = api_lab.vm("mail-01").id
    one, other = client.disk_ids(vm_id)
    taken = take(client, vm_id, disk_attachments=of_disks(one))
    disks = snapshots_of(client, vm_id).snapshot_service(taken.id).disks_service().list()
    assert [disk.id for disk in disks] == [one]
    assert [len(volumes(client, disk_id)) for disk_id in (one, other)] == [2, 1]


def test_what_cannot_be_taken(api_lab: RunningLab, client: Client, rest: Rest) -> None:
    vm_id = api_lab.vm("files-01").id
    stranger = client.disk_ids(api_lab.vm("web-01").id)[0]
    answer = rest.post(f"/vms/{vm_id}/snapshots", "<snapshot/>")
    assert (answer.status, answer.text("detail")) == (400, "Snapshot [description] required for add")
    code, text = refusal(lambda: post(client, vm_id, disk_attachments=of_disks(stranger)))
    assert code == 400 and stranger in text
    assert rest.get(f"/vms/{vm_id}/snapshots/{uuid.uuid4()}").status == 404
    active = next(each for each in snapshots_of(client, vm_id).list() if each.snapshot_type == Kind.ACTIVE)
    assert rest.delete(f"/vms/{vm_id}/snapshots/{active.id}").status == 404
    assert regular(client, vm_id) == []


def test_shareable_disks_are_left_out_unless_they_are_named(api_lab: RunningLab, client: Client) -> None:
    vm_id = api_lab.vm("files-01").id
    shared = client.add_disk(MIB, "shared", format=types.DiskFormat.RAW, shareable=True)
    attachments = client.vm(vm_id).disk_attachments_service()
    attachments.add(
        types.DiskAttachment(
            disk=types.Disk(id=shared), interface=types.DiskInterface.VIRTIO, bootable=False, active=True
        )
    )
    named = refusal(lambda: post(client, vm_id, disk_attachments=of_disks(shared)))
    assert named == (
        400,
        "[Cannot create Snapshot. Snapshot is not allowed for the following disk(s): shared.]",
    )
    taken = take(client, vm_id)
    disks = snapshots_of(client, vm_id).snapshot_service(taken.id).disks_service().list()
    assert shared not in [disk.id for disk in disks]
    attachments.attachment_service(shared).remove(detach_only=False)
    wait_for(
        lambda: client.is_gone(client.system.disks_service().disk_service(shared)), "the shared disk is gone"
    )


def test_one_thing_at_a_time(api_lab: RunningLab, client: Client) -> None:
    vm_id, control = api_lab.vm("files-01").id, api_lab.control
    (disk_id,) = client.disk_ids(vm_id)
    head = "[Cannot create Snapshot. "
    with control.fault("phase", of="snapshot", phase="creation", which="files-01") as fault:
        first = post(client, vm_id, "first")
        fault.wait_struck()
        text = f"{head}Snapshot is currently being created for VM files-01.]"
        assert refusal(lambda: post(client, vm_id)) == (409, text)
    wait_ok(client, vm_id, first.id)
    second = take(client, vm_id, "second")
    with control.fault("phase", of="snapshot", phase="merge", which="files-01") as fault:
        snapshots_of(client, vm_id).snapshot_service(second.id).remove()
        fault.wait_struck()
        wait = "Please wait for the operation to finish, and try again."
        text = f"{head}The VM is performing an operation on a Snapshot. {wait}]"
        assert refusal(lambda: post(client, vm_id)) == (409, text)
        busy = refusal(snapshots_of(client, vm_id).snapshot_service(first.id).remove)
        text = "Related operation is currently in progress. Please try again later."
        assert busy == (409, f"[Cannot remove Snapshot. {text}]")
    gone = snapshots_of(client, vm_id).snapshot_service(second.id)
    wait_for(lambda: client.is_gone(gone), "the second snapshot is gone")
    attachment = client.vm(vm_id).disk_attachments_service().attachment_service(disk_id)
    code, text = refusal(lambda: attachment.remove(detach_only=True))
    assert code == 409 and "The disk is already configured in a snapshot" in text
    backup = client.start_backup(vm_id)
    during = "The VM is during a backup operation.]"
    removal = snapshots_of(client, vm_id).snapshot_service(first.id).remove
    assert refusal(lambda: post(client, vm_id)) == (409, head + during)
    assert refusal(removal) == (409, f"[Cannot remove Snapshot. {during}")
    client.end_backup(vm_id, backup.id)
    checkpoint = client.vm(vm_id).checkpoints_service().checkpoint_service(backup.to_checkpoint_id)
    checkpoint.remove()
    wait_for(lambda: client.is_gone(checkpoint), "the checkpoint is gone")


@pytest.mark.parametrize("name", ["web-01", "files-01"])
def test_a_failed_creation_gives_its_id_to_the_active_one(
    api_lab: RunningLab, client: Client, name: str
) -> None:
    vm_id, newest = api_lab.vm(name).id, newest_event(client)
    with api_lab.control.fault("phase", of="snapshot", phase="creation", how="fail", which=name, times=1):
        new = post(client, vm_id)
        found = wait_ok(client, vm_id, new.id)
    assert (found.id, found.snapshot_type, found.description) == (new.id, Kind.ACTIVE, "Active VM")
    assert [each.id for each in snapshots_of(client, vm_id).list()] == [new.id]
    assert 69 in event_codes(client, newest) and 68 not in event_codes(client, newest)
    (disk_id,) = client.disk_ids(vm_id)
    client.wait_disk(disk_id)
    take(client, vm_id, "the next one")


def test_a_failed_merge_leaves_the_snapshot(api_lab: RunningLab, client: Client) -> None:
    vm_id, newest = api_lab.vm("web-01").id, newest_event(client)
    taken = take(client, vm_id)
    with api_lab.control.fault("phase", of="snapshot", phase="merge", how="fail", which="web-01", times=1):
        snapshots_of(client, vm_id).snapshot_service(taken.id).remove()
        wait_for(lambda: 357 in event_codes(client, newest), "the failure is told")
    assert wait_ok(client, vm_id, taken.id).snapshot_type == Kind.REGULAR
    remove(client, vm_id, taken.id)


def test_volumes_of_a_disk_and_of_a_domain(api_lab: RunningLab, client: Client) -> None:
    vm_id = api_lab.vm("files-01").id
    (disk_id,) = client.disk_ids(vm_id)
    disk = client.system.disks_service().disk_service(disk_id).get()
    domain = client.system.storage_domains_service().storage_domain_service(disk.storage_domains[0].id)
    base = disk.image_id
    ids = [take(client, vm_id, description).id for description in ("one", "two")]
    frozen = volumes(client, disk_id, active=False)
    assert [each.snapshot.id for each in frozen] == ids
    every = volumes(client, disk_id)
    assert [each.id for each in every[:2]] == [each.id for each in frozen]
    parents = [each.parent.id if each.parent else None for each in every]
    assert parents == [None, base, every[1].id]
    assert {(each.disk.id, each.storage_domain.id) for each in every} == {
        (disk_id, disk.storage_domains[0].id)
    }
    active = next(each for each in snapshots_of(client, vm_id).list() if each.snapshot_type == Kind.ACTIVE)
    assert every[2].snapshot.id == active.id
    listed = {each.id for each in domain.disk_snapshots_service().list()}
    assert listed >= {base, every[1].id} and every[2].id not in listed
    listed = {each.id for each in domain.disk_snapshots_service().list(query={"include_active": "true"})}
    assert every[2].id in listed
    one = domain.disk_snapshots_service().snapshot_service(every[1].id).get()
    assert (one.id, one.disk.id, one.parent.id) == (every[1].id, disk_id, base)
    # The lower of the two goes: its volume is the base still, and is what the upper one is a snapshot of.
    remove(client, vm_id, ids[0])
    assert [(each.id, each.snapshot.id) for each in volumes(client, disk_id, active=False)] == [
        (base, ids[1])
    ]


def read(api_lab: RunningLab, client: Client, volume_id: str, target: Path, shallow: bool = False) -> None:
    snapshot = types.DiskSnapshot(id=volume_id)
    direction = types.ImageTransferDirection.DOWNLOAD
    transfer = client.start_transfer(snapshot=snapshot, direction=direction, shallow=shallow)
    assert transfer.phase == types.ImageTransferPhase.TRANSFERRING
    with ImageioClient(transfer.transfer_url, cafile=api_lab.ca_file, secure=True) as image:
        save_all(image, target)
    assert client.finalize(transfer.id).phase == types.ImageTransferPhase.FINISHED_SUCCESS


def test_a_volume_is_read_while_the_machine_runs(api_lab: RunningLab, client: Client, tmp_path: Path) -> None:
    """The snapshot stands still under a guest that writes; `shallow` is what one volume alone holds."""
    vm_id = api_lab.vm("web-01").id
    (disk_id,) = client.disk_ids(vm_id)
    code, _ = refusal(lambda: client.download(disk_id))
    assert code == 409
    first, second = take(client, vm_id, "one"), take(client, vm_id, "two")
    base, upper = volumes(client, disk_id, active=False)
    assert (base.snapshot.id, upper.snapshot.id) == (first.id, second.id)
    read(api_lab, client, upper.id, tmp_path / "whole")
    read(api_lab, client, upper.id, tmp_path / "again")
    assert_equal(tmp_path / "whole", tmp_path / "again", ("raw", "raw"))
    path, _ = volume_file(api_lab, client, disk_id)
    assert_equal(tmp_path / "whole", path.with_name(upper.id), ("raw", "qcow2"))
    read(api_lab, client, upper.id, tmp_path / "alone", shallow=True)
    alone, whole = ((tmp_path / name).stat().st_blocks for name in ("alone", "whole"))
    assert 0 < alone < whole
