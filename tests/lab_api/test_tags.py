# SPDX-License-Identifier: GPL-3.0-or-later
"""The tree of tags, and tags on machines and hosts."""

from collections.abc import Iterator

import ovirtsdk4 as sdk
import pytest
from ovirtsdk4 import types

from tests.lab_api.support import Client
from tests.lab_support import RunningLab

pytestmark = pytest.mark.lab


@pytest.fixture
def tree(client: Client) -> Iterator[dict[str, str]]:
    """`metal`, and `gold` below it: ids by name."""
    tags = client.system.tags_service()
    metal = tags.add(types.Tag(name="metal"))
    gold = tags.add(types.Tag(name="gold", parent=types.Tag(name="metal")))
    yield {"metal": metal.id, "gold": gold.id}
    for tag in tags.list():
        if tag.id in (metal.id, gold.id):
            tags.tag_service(tag.id).remove()
            break


def test_search_by_a_tag_finds_what_is_tagged_below_it(
    api_lab: RunningLab, client: Client, tree: dict[str, str]
) -> None:
    hosts, vms = client.system.hosts_service(), client.system.vms_service()
    (host,) = hosts.list()
    client.vm(api_lab.vm("web-01").id).tags_service().add(types.Tag(id=tree["gold"]))
    of_host = hosts.host_service(host.id).tags_service()
    assert of_host.add(types.Tag(name="metal")).host.id == host.id
    for name, found_vms, found_hosts in (("gold", ["web-01"], []), ("metal", ["web-01"], [host.name])):
        assert [vm.name for vm in vms.list(search=f"tag={name}")] == found_vms
        assert [h.name for h in hosts.list(search=f"tag={name}")] == found_hosts
    assert of_host.tag_service(tree["metal"]).get().name == "metal"
    of_host.tag_service(tree["metal"]).remove()
    assert of_host.list() == []


def test_removing_a_tag_removes_those_below_it_and_takes_them_off(
    api_lab: RunningLab, client: Client, tree: dict[str, str]
) -> None:
    of_vm = client.vm(api_lab.vm("web-01").id).tags_service()
    of_vm.add(types.Tag(name="gold"))
    client.system.tags_service().tag_service(tree["metal"]).remove()
    assert not set(tree.values()) & {tag.id for tag in client.system.tags_service().list()}
    assert tree["gold"] not in {tag.id for tag in of_vm.list()}


def test_a_tag_is_renamed_described_and_moved(client: Client, tree: dict[str, str]) -> None:
    tags = client.system.tags_service()
    service = tags.tag_service(tree["gold"])
    root = next(tag for tag in tags.list() if tag.parent is None)
    changed = service.update(types.Tag(name="silver", description="Second", parent=types.Tag(id=root.id)))
    assert (changed.name, changed.description, changed.parent.id) == ("silver", "Second", root.id)
    service.update(types.Tag(parent=types.Tag(name="metal")))
    assert service.get().parent.id == tree["metal"]


def test_what_would_break_the_tree_is_refused(client: Client, tree: dict[str, str]) -> None:
    tags = client.system.tags_service()
    root = next(tag for tag in tags.list() if tag.parent is None)
    with pytest.raises(sdk.Error, match="cannot be the parent of itself"):
        tags.tag_service(tree["metal"]).update(types.Tag(parent=types.Tag(name="gold")))
    with pytest.raises(sdk.Error, match="already exists"):
        tags.tag_service(tree["gold"]).update(types.Tag(name="metal"))
    with pytest.raises(sdk.Error, match="read-only"):
        tags.tag_service(root.id).remove()
    with pytest.raises(sdk.Error, match="Entity not found"):
        tags.add(types.Tag(name="orphan", parent=types.Tag(name="nobody")))
