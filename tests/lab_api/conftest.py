# SPDX-License-Identifier: GPL-3.0-or-later
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab_api.support import Client, Rest, connect
from tests.lab_support import LabControl, RunningLab, start_lab
from tests.sdk_examples import Examples


@pytest.fixture(scope="session")
def api_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningLab]:
    """A lab for the tests of the API alone: they may change any of its machines but leave the power as it was."""
    lab = start_lab(tmp_path_factory.mktemp("lab"))
    yield lab
    assert lab.stop() == 0
    log = (lab.dir / "lab.log").read_text()
    # What the lab did not foresee is logged as an error of its own modules; no test may cause that.
    assert " ERROR lab" not in log, log[log.index(" ERROR lab") :][:3000]


@pytest.fixture(scope="session")
def rest(api_lab: RunningLab) -> Rest:
    return Rest(api_lab)


@pytest.fixture(scope="module")
def client(api_lab: RunningLab) -> Iterator[Client]:
    with connect(api_lab) as connection:
        yield Client(connection)


@pytest.fixture
def examples(api_lab: RunningLab, tmp_path: Path) -> Examples:
    return Examples(api_lab, tmp_path)


@pytest.fixture(autouse=True)
def _lab_lives(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test may bring the lab down."""
    yield
    if "api_lab" in request.fixturenames:
        assert request.getfixturevalue("api_lab").process.poll() is None


@pytest.fixture(scope="session")
def fault_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningLab]:
    """A lab for the tests of its faults."""
    lab = start_lab(tmp_path_factory.mktemp("fault-lab"))
    yield lab
    assert lab.stop() == 0
    log = (lab.dir / "lab.log").read_text()
    assert " ERROR lab" not in log, log[log.index(" ERROR lab") :][:3000]


@pytest.fixture
def control(fault_lab: RunningLab) -> Iterator[LabControl]:
    """What breaks things in that lab; each test takes its faults away again."""
    yield fault_lab.control
    left = fault_lab.control.faults()
    fault_lab.control.clear()
    assert left == [], "a test left a fault behind"
