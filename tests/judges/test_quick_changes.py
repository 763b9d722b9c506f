# SPDX-License-Identifier: GPL-3.0-or-later
"""More examples of the SDK that are over in a moment: tags, a machine with a network card, the inventory at once."""

import pytest
from ovirtsdk4 import types

from tests.lab_api.support import Client, wait_for
from tests.lab_support import RunningLab
from tests.sdk_examples import Examples

pytestmark = pytest.mark.lab
judge = pytest.mark.judge


@judge("add_tag.py", "assign_tag_to_vm.py", "list_tags_of_vm.py", "unassign_tag_to_vm.py", "remove_tag.py")
def test_a_tag_from_its_making_to_its_end(lab: RunningLab, client: Client, examples: Examples) -> None:
    named, of_vm = {"mytag": "judged"}, {"name=myvm0": "name=files-01"}
    tags = client.system.tags_service()
    tags_of_vm = client.vm(lab.vm("files-01").id).tags_service()
    before = {tag.name for tag in tags_of_vm.list()}
    examples.run_as_if("add_tag.py", named)
    assert ("judged", "My custom tag") in [(tag.name, tag.description) for tag in tags.list()]
    examples.run_as_if("assign_tag_to_vm.py", {**named, **of_vm})
    assert {tag.name for tag in tags_of_vm.list()} == before | {"judged"}
    assert "judged: My custom tag" in examples.run_as_if("list_tags_of_vm.py", of_vm)
    examples.run_as_if("unassign_tag_to_vm.py", {**named, **of_vm})
    assert {tag.name for tag in tags_of_vm.list()} == before
    examples.run_as_if("remove_tag.py", named)
    assert "judged" not in {tag.name for tag in tags.list()}


@judge("add_vm.py", "add_vm_nic.py", "remove_vm.py")
def test_a_machine_from_its_making_to_its_end(client: Client, examples: Examples) -> None:
    found = {"name=myvm": "name=judged"}
    examples.run_as_if("add_vm.py", {"myvm": "judged", "mycluster": "Default"})
    (vm,) = client.system.vms_service().list(search="name=judged")
    assert vm.status == types.VmStatus.DOWN
    examples.run_as_if("add_vm_nic.py", {**found, "mynetwork": "office", "mynic": "nic9"})
    (nic,) = client.vm(vm.id).nics_service().list(follow="vnic_profile.network")
    assert (nic.name, nic.vnic_profile.network.name) == ("nic9", "office")
    assert nic.mac.address
    examples.run_as_if("remove_vm.py", found)
    wait_for(lambda: client.is_gone(client.vm(vm.id)), "the machine is gone")


@judge("assign_permission_to_vms.py", "assign_permission.py", "add_group.py")
def test_rights_are_given_once_to_who_is_named(lab: RunningLab, client: Client, examples: Examples) -> None:
    names = ("legacy-01", "mail-01", "files-01")
    machines = {f"myvm{number}": name for number, name in enumerate(names, 1)}
    on_machines = [client.vm(lab.vm(name).id).permissions_service() for name in names]
    (network,) = client.system.networks_service().list(search="name=office")
    on_network = client.system.networks_service().network_service(network.id).permissions_service()
    groups = client.system.groups_service()
    (oscar,) = client.system.users_service().list(search="login=oscar")
    before = [{p.id for p in service.list()} for service in (*on_machines, on_network)]
    for _ in range(2):
        examples.run_as_if(
            "assign_permission_to_vms.py", {**machines, "user2@internal-authz": oscar.user_name}
        )
        wanted = {
            "name=mynetwork": "name=office",
            "usrname=myuser@mydomain-authz": f"usrname={oscar.user_name}",
        }
        examples.run_as_if("assign_permission.py", wanted)
    for service, known, role in zip(
        (*on_machines, on_network), before, (*["UserVmManager"] * 3, "GlusterAdmin"), strict=True
    ):
        (given,) = [p for p in service.list(follow="role") if p.id not in known]
        assert (given.user.id, given.role.name) == (oscar.id, role)
        service.permission_service(given.id).remove()
    examples.run_as_if("add_group.py", {"mygroup": "auditors"})
    (auditors,) = groups.list(search="name=auditors")
    groups.group_service(auditors.id).remove()
    assert auditors.domain.name == oscar.domain.name


@judge("test_connection.py", "show_summary.py", "list_roles.py", "list_cluster_networks.py")
def test_what_the_manager_is(machines: list[types.Vm], client: Client, examples: Examples) -> None:
    assert examples.run_as_if("test_connection.py") == ["Connection works."]
    version, *counts = examples.run_as_if("show_summary.py")
    assert version.startswith("version: 4.5")
    assert counts == ["hosts: 1", "sds: 2", "users: 3", f"vms: {len(machines)}"]
    roles = examples.run_as_if("list_roles.py")
    assert roles == [f"{role.name}: {role.description}" for role in client.system.roles_service().list()]
    networks = examples.run_as_if("list_cluster_networks.py", {"name=mycluster": "name=Default"})
    names = {network.name for network in client.system.networks_service().list()}
    assert {line.partition("name: ")[2] for line in networks if line.startswith("name: ")} == names


@judge("asynchronous_inventory.py")
def test_the_inventory_by_many_requests_at_once(
    machines: list[types.Vm], client: Client, examples: Examples
) -> None:
    lines = examples.run_as_if("asynchronous_inventory.py")
    disks = len(client.system.disks_service().list())
    assert {f"Loaded {len(machines)} VMs.", f"Loaded {disks} disks.", "Loaded VM reported devices."} <= set(
        lines
    )
    for vm in machines:
        assert f"Loaded NICs of VM '{vm.name}'." in lines
        assert lines.count(f"Loaded disk attachments of VM '{vm.name}'.") == len(client.disk_ids(vm.id))
