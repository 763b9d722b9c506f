# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges share the session's lab and leave it as they found it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab_api.support import Client, Rest, connect
from tests.lab_support import RunningLab
from tests.sdk_examples import Examples


@pytest.fixture(scope="module")
def client(lab: RunningLab) -> Iterator[Client]:
    with connect(lab) as connection:
        yield Client(connection)


@pytest.fixture(scope="module")
def rest(lab: RunningLab) -> Rest:
    return Rest(lab)


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
    before = _world(client)
    yield
    assert lab.process.poll() is None
    assert _world(client) == before


def _world(client: Client) -> dict[str, object]:
    system = client.system
    transfers = system.image_transfers_service().list()
    return {
        "vms": {(vm.id, vm.status.value) for vm in system.vms_service().list()},
        "disks": {(disk.id, disk.status.value) for disk in system.disks_service().list()},
        "tags": {tag.id for tag in system.tags_service().list()},
        "open transfers": {t.id for t in transfers if not t.phase.value.startswith("finished")},
    }
