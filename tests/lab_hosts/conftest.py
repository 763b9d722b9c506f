# SPDX-License-Identifier: GPL-3.0-or-later
"""One lab with a Manager's machine for all of these tests; each leaves it as it was."""

from collections.abc import Iterator

import pytest

from tests.lab_hosts.support import Shell
from tests.lab_support import RunningLab, start_lab


@pytest.fixture(scope="session")
def hosts_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningLab]:
    lab = start_lab(tmp_path_factory.mktemp("lab") / "lab", arguments=["--hosts"])
    yield lab
    lab.stop()


@pytest.fixture
def shell(hosts_lab: RunningLab) -> Iterator[Shell]:
    yield Shell(hosts_lab)
    hosts_lab.control.clear()
