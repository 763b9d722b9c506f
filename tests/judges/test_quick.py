# SPDX-License-Identifier: GPL-3.0-or-later
"""The judges that are over in a moment: examples of the SDK that list, search, page and follow, and a checksum."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from ovirtsdk4 import types

from tests.judges.images import volume_file
from tests.lab_api.support import Client
from tests.lab_support import RunningLab
from tests.sdk_examples import Examples

pytestmark = pytest.mark.lab
judge = pytest.mark.judge


@judge("list_vms.py")
def test_every_machine_is_listed(machines: list[types.Vm], examples: Examples) -> None:
    assert sorted(examples.run_as_if("list_vms.py")) == sorted(f"{vm.name}: {vm.id}" for vm in machines)


@judge("search_vms.py")
def test_search_finds_by_name_whatever_its_case(
    lab: RunningLab, machines: list[types.Vm], examples: Examples
) -> None:
    vm = lab.vm("db-01")
    found = examples.run_as_if("search_vms.py", {"name=MYVM": "name=DB-01"})
    assert found == [f"{vm.name}: {vm.id}"]
    found = examples.run_as_if("search_vms.py", {"name=MYVM": "name=*-01 and status=down"})
    down = [vm for vm in machines if vm.name.endswith("-01") and vm.status == types.VmStatus.DOWN]
    assert {vm.name for vm in down} >= {"files-01", "legacy-01"}
    assert sorted(found) == sorted(f"{vm.name}: {vm.id}" for vm in down)


@judge("page_vms.py")
def test_pages_of_one_machine_show_each_once_and_end(machines: list[types.Vm], examples: Examples) -> None:
    assert sorted(examples.run_as_if("page_vms.py")) == sorted(vm.name for vm in machines)


@judge("follow_vm_links.py")
def test_links_of_a_machine_lead_to_cluster_template_and_permissions(
    client: Client, examples: Examples
) -> None:
    lines = examples.run_as_if("follow_vm_links.py", {"name=myvm": "name=web-01"})
    assert lines[:2] == ["cluster: Default", "template: Blank"]
    roles = {f"role: {role.id}": role.name for role in client.system.roles_service().list()}
    named = sorted(roles[line] for line in lines[2:])
    assert named == ["SuperUser", "UserProfileEditor", "UserRole", "UserVmManager"]


@judge("list_vm_disks.py")
def test_disks_of_a_machine_are_listed(lab: RunningLab, client: Client, examples: Examples) -> None:
    expected = []
    for disk_id in client.disk_ids(lab.vm("db-01").id):
        disk = client.system.disks_service().disk_service(disk_id).get()
        expected += [f"name: {disk.name}", f"id: {disk.id}", "status: ok"]
        expected.append(f"provisioned_size: {disk.provisioned_size}")
    assert len(expected) == 8
    assert examples.run_as_if("list_vm_disks.py", {"name=myvm": "name=db-01"}) == expected


@judge("list_vm_snapshots.py")
def test_snapshots_are_listed_with_their_disks(
    machines: list[types.Vm], client: Client, examples: Examples
) -> None:
    """Each machine has at least the active one."""
    domains = {d.id: d.name for d in client.system.storage_domains_service().list()}
    disks = {disk.id: disk for disk in client.system.disks_service().list()}
    expected = {
        f"{vm.name}:Active VM:{disks[disk_id].alias}:{domains[disks[disk_id].storage_domains[0].id]}"
        for vm in machines
        for disk_id in client.disk_ids(vm.id)
    }
    lines = examples.run_as_if("list_vm_snapshots.py")
    assert {line for line in lines if ":Active VM:" in line} == expected


@judge("list_storage_domains.py")
def test_storage_domains_are_listed_and_searched(client: Client, examples: Examples) -> None:
    domains = {d.name: d.id for d in client.system.storage_domains_service().list()}
    listed = json.loads(examples.run("list_storage_domains.py", "-c", "lab").stdout)
    assert {d["name"]: d["id"] for d in listed} == domains
    assert {d["type"] for d in listed} == {"data"}
    searched = examples.run("list_storage_domains.py", "-c", "lab", "--search", "name=data-*2").stdout
    assert json.loads(searched) == [{"name": "data-02", "id": domains["data-02"], "type": "data"}]


@judge("list_tags.py")
def test_tags_are_listed_with_their_descriptions(client: Client, examples: Examples) -> None:
    tags = client.system.tags_service()
    tag = tags.add(types.Tag(name="nightly", description="Backed up each night"))
    try:
        lines = examples.run_as_if("list_tags.py")
        assert "nightly: Backed up each night" in lines
        assert sorted(lines) == sorted(f"{t.name}: {t.description}" for t in tags.list())
    finally:
        tags.tag_service(tag.id).remove()


@judge("download_vm_ovf.py")
def test_ovf_names_the_machine_and_its_disks(
    lab: RunningLab, client: Client, examples: Examples, tmp_path: Path
) -> None:
    vm = lab.vm("db-01")
    examples.run_as_if("download_vm_ovf.py", {"myvm": "db-01"})
    ovf = ET.parse(tmp_path / f"{vm.id}.ovf").getroot()
    space = "{http://schemas.dmtf.org/ovf/envelope/1/}"
    files = {item.get(f"{space}href") for item in ovf.iter("File")}
    assert {str(name).partition("/")[0] for name in files} == set(client.disk_ids(vm.id))
    assert ovf.findtext("Content/Name") == "db-01"


@judge("checksum_disk.py", "checksum_image.py")
def test_checksum_of_a_disk_is_that_of_its_image(lab: RunningLab, client: Client, examples: Examples) -> None:
    (disk_id,) = client.disk_ids(lab.vm("files-01").id)
    path, _ = volume_file(lab, client, disk_id)
    of_image = json.loads(examples.run("checksum_image.py", str(path)).stdout)
    assert examples.checksum(disk_id) == of_image
