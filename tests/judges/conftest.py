# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges share the session's lab and leave it as they found it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from ovirtsdk4 import types

from tests.lab_api.support import Client, Rest, connect
from tests.lab_support import RunningLab
from tests.sdk_examples import Examples

LAB_MACHINES = ("web-01", "db-01", "legacy-01", "files-01", "mail-01")


@pytest.fixture(scope="module")
def client(lab: RunningLab) -> Iterator[Client]:
    with connect(lab) as connection:
        yield Client(connection)


@pytest.fixture(scope="module")
def rest(lab: RunningLab) -> Rest:
    return Rest(lab)


@pytest.fixture
def machines(client: Client) -> list[types.Vm]:
    """Every machine there is; in the suite other tests may have left some of their own."""
    found = client.system.vms_service().list()
    assert {vm.name for vm in found} >= set(LAB_MACHINES)
    return found


@pytest.fixture
def examples(lab: RunningLab, tmp_path: Path) -> Examples:
    return Examples(lab, tmp_path)


@pytest.fixture(autouse=True)
def _leaves_the_lab_as_it_was(request: pytest.FixtureRequest) -> Iterator[None]:
    """No machine, disk, tag or transfer stays behind, and the power is as before."""
    if "lab" not in request.fixturenames and "client" not in request.fixturenames:
        yield
        return
    lab, client = request.getfixturevalue("lab"), request.getfixturevalue("client")
    things, power = _things(client), _power(client)
    yield
    assert lab.process.poll() is None
    # What others left behind may end meanwhile; nothing may come.
    assert _things(client) - things == set()
    assert _power(client) == power


def _things(client: Client) -> set[tuple[str, str]]:
    system = client.system
    transfers = system.image_transfers_service().list()
    return {
        *(("vm", vm.id) for vm in system.vms_service().list()),
        *(("disk", disk.id) for disk in system.disks_service().list()),
        *(("tag", tag.id) for tag in system.tags_service().list()),
        *(("open transfer", t.id) for t in transfers if not t.phase.value.startswith("finished")),
    }


def _power(client: Client) -> dict[str, str]:
    """Of the lab's own machines; others' tests may still be busy with theirs."""
    vms = client.system.vms_service().list()
    return {vm.name: vm.status.value for vm in vms if vm.name in LAB_MACHINES}
