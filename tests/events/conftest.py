# SPDX-License-Identifier: GPL-3.0-or-later
from collections.abc import Iterator

import pytest

from portal.events import services
from portal.jobs import services as jobs
from tests.events.receiver import Receiver, receiver


@pytest.fixture
def listening() -> Iterator[Receiver]:
    with receiver() as found:
        yield found


@pytest.fixture(autouse=True)
def no_broker(monkeypatch):
    """Nothing is rung for: tests take the courier's part themselves."""
    monkeypatch.setattr(services, "ring", lambda: None)
    monkeypatch.setattr(jobs, "ring", lambda *_: None)
