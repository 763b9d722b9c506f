# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab with a Manager's machine, and the portal's way into it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from portal.remote.connection import HostAddress
from tests.lab_support import RunningLab, start_lab


@pytest.fixture(scope="package")
def hosts_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningLab]:
    lab = start_lab(tmp_path_factory.mktemp("lab") / "lab", arguments=["--hosts"])
    yield lab
    lab.stop()


@pytest.fixture
def host(hosts_lab: RunningLab) -> Iterator[HostAddress]:
    told = hosts_lab.hosts[0]
    key = Path(told.key_file).read_text()
    yield HostAddress(told.address, told.port, told.user, key, told.host_key)
    hosts_lab.control.clear()
