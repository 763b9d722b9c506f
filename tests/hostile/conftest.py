# SPDX-License-Identifier: GPL-3.0-or-later
import pytest

from portal.events import services as events
from portal.jobs import services as jobs
from tests.conftest import People
from tests.hostile.world import World


@pytest.fixture
def world(people: People) -> World:
    return World(people)


@pytest.fixture(autouse=True)
def no_broker(monkeypatch):
    """Whatever is begun stays in its row."""
    monkeypatch.setattr(jobs, "ring", lambda *_: None)
    monkeypatch.setattr(events, "ring", lambda: None)
