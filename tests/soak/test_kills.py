# SPDX-License-Identifier: GPL-3.0-or-later
"""Workers killed at random instants of every kind of work. A handful here; `make soak` does fifty."""

import os
import random
import signal
import uuid
from pathlib import Path

import pytest

from backups.models import Repository
from backups.store.repository import Repository as Store
from tests.soak import report
from tests.soak.driver import Soak, hybrid_machines
from tests.soak.instants import Instant
from tests.soak.works import Backup, RestoreAsNew, Stage, Verify

pytestmark = [pytest.mark.flow, pytest.mark.lab]

# Younger chunks are never collected; longer than any work of the soak takes.
GC_AGE_SECONDS = 30.0


@pytest.fixture
def stage(lab, environment, people, workers, tmp_path: Path) -> Stage:
    store = Store.create(tmp_path / "soak", owner="soak", gc_age_seconds=GC_AGE_SECONDS)
    row = Repository.objects.create(uuid=store.uuid, name="Soak", path=str(store.path), is_default=True)
    return Stage(lab, environment, row, people.root, workers.supervisor.environment)


def test_a_handful_of_kills_at_once(stage, workers):
    """Four works on two workers, both of which are killed; a fixed seed."""
    soak = Soak(stage, workers, random.Random(20), lambda line: None)
    for machine in ("files-01", "db-01"):
        work = Backup(stage, machine, full=True)
        work.begin()
        work.end()
        assert not work.judge()
    works = [
        Backup(stage, "web-01", full=True),
        Backup(stage, "mail-01", full=False),
        RestoreAsNew(stage, "files-01"),
        Verify(stage, "db-01"),
    ]
    plans = [
        [Instant(soak.dice.uniform(0, 0.4), "disk")],
        [Instant(soak.dice.uniform(0, 0.4), "start", signal.SIGTERM)],
        [Instant(soak.dice.uniform(0, 0.4), "write")],
        [],
    ]
    soak.batch(works, plans, brake=False)
    assert [str(row) for row in soak.rows if not row.right] == []
    assert len(soak.rows) >= 2


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_kills(stage, workers, capsys):
    """As many as KILLS says, with the dice thrown from SEED."""
    kills, seed = int(os.environ.get("KILLS", "50")), int(os.environ.get("SEED") or uuid.uuid4().int % 10**6)

    def tell(line: str) -> None:
        with capsys.disabled():
            print(line, flush=True)

    tell(f"\n{kills} kills, SEED={seed}")
    soak = Soak(stage, workers, random.Random(seed), tell)
    with hybrid_machines(stage):
        soak.measure()
        try:
            soak.run(kills)
            wrong = soak.judge_end()
        finally:
            report.found.update(soak.summary(), seed=seed)
    assert [str(row) for row in soak.rows if not row.right] == []
    assert wrong == []
