# SPDX-License-Identifier: GPL-3.0-or-later
"""Compatibility levels: one lab holds machines of several generations, by a level of their own."""

import uuid
import xml.etree.ElementTree as ET
from collections.abc import Iterator

import ovirtsdk4 as sdk
import pytest
from ovirtsdk4 import types

from tests.lab_api.support import Client, wait_for
from tests.lab_api.test_backup_rules import FAILED, forget_checkpoints, full_cycle, refused
from tests.lab_support import RunningLab

pytestmark = pytest.mark.lab


@pytest.fixture
def files(api_lab: RunningLab, client: Client) -> Iterator[str]:
    """files-01, which is down; it is given back so, at its cluster's level and without checkpoints."""
    vm_id = api_lab.vm("files-01").id
    yield vm_id
    client.set_power(vm_id, up=False)
    set_level(client, vm_id, types.Version())
    forget_checkpoints(client, vm_id)


def set_level(client: Client, vm_id: str, level: types.Version) -> None:
    client.vm(vm_id).update(types.Vm(custom_compatibility_version=level))


def level_of(client: Client, vm_id: str) -> tuple[int, int] | None:
    version = client.vm(vm_id).get().custom_compatibility_version
    return (version.major, version.minor) if version else None


def test_a_vm_has_a_level_of_its_own(client: Client, files: str) -> None:
    assert level_of(client, files) is None
    set_level(client, files, types.Version(major=4, minor=5))
    assert level_of(client, files) == (4, 5)
    ovf = client.vm(files).get(all_content=True).initialization.configuration.data
    assert ET.fromstring(ovf).findtext(".//CustomCompatibilityVersion") == "4.5"
    configuration = types.Configuration(type=types.ConfigurationType.OVF, data=ovf)
    copy = types.Initialization(configuration=configuration, regenerate_ids=True)
    cluster = client.system.clusters_service().list()[0]
    added = client.system.vms_service().add(types.Vm(name="copy", cluster=cluster, initialization=copy))
    assert level_of(client, added.id) == (4, 5)
    client.vm(added.id).remove(detach_only=True)
    wait_for(lambda: client.is_gone(client.vm(added.id)), "the copy is gone")
    with pytest.raises(sdk.Error) as caught:
        set_level(client, files, types.Version(major=3, minor=6))
    assert caught.value.code == 400
    assert level_of(client, files) == (4, 5)
    set_level(client, files, types.Version())
    assert level_of(client, files) is None


def test_a_running_vm_gets_its_level_when_it_is_down(client: Client, files: str) -> None:
    client.set_power(files, up=True)
    set_level(client, files, types.Version(major=4, minor=4))
    assert (level_of(client, files), client.vm(files).get().next_run_configuration_exists) == (None, True)
    client.set_power(files, up=False)
    assert (level_of(client, files), client.vm(files).get().next_run_configuration_exists) == ((4, 4), False)


def test_level_4_4_knows_full_backups_of_running_vms_alone(client: Client, files: str) -> None:
    checkpoint = full_cycle(client, files).to_checkpoint_id
    set_level(client, files, types.Version(major=4, minor=4))
    unsupported = "[Cannot backup VM. Incremental backup is not supported.]"
    refused(client, files, 400, unsupported)
    refused(client, files, 400, unsupported, from_checkpoint_id=checkpoint)
    client.set_power(files, up=True)
    # The level is asked before the checkpoint is looked for.
    refused(client, files, 400, unsupported, from_checkpoint_id=str(uuid.uuid4()))
    backup = full_cycle(client, files)
    assert backup.to_checkpoint_id is None
    assert [c.id for c in client.vm(files).checkpoints_service().list()] == [checkpoint]


@pytest.mark.parametrize("minor, survives", [(5, False), (6, True)])
def test_only_level_4_5_needs_the_whole_chain(
    api_lab: RunningLab, client: Client, files: str, minor: int, survives: bool
) -> None:
    set_level(client, files, types.Version(major=4, minor=minor))
    first = full_cycle(client, files).to_checkpoint_id
    second = full_cycle(client, files, since=first).to_checkpoint_id
    api_lab.control.act("break_bitmap", vm="files-01", how="missing", checkpoint=first)
    client.set_power(files, up=True)
    if survives:
        assert full_cycle(client, files, since=second).to_checkpoint_id is not None
        return
    backup = client.start_backup(files, since=second)
    assert backup.phase == FAILED
    assert wait_for(lambda: client.events(backup.id), "its events")[0][0] == 10791
    assert client.vm(files).checkpoints_service().list() == []
