# SPDX-License-Identifier: GPL-3.0-or-later
import pytest
from celery import current_app

from portal.jobs import runner


@pytest.fixture
def rings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Bells that were rung, as (task, job id), instead of a broker that takes them."""
    heard: list[tuple[str, int]] = []

    def hear(task: str, args: list[int], **_: object) -> None:
        heard.append((task, *args))

    monkeypatch.setattr(current_app, "send_task", hear)
    return heard


@pytest.fixture(autouse=True)
def no_shutdown():
    """Tests that tell this process to stop its jobs must not leave it so."""
    yield
    runner.shutdown.clear()
