# SPDX-License-Identifier: GPL-3.0-or-later
"""Several writers, several sealers, and sealers that are killed: the chain has every entry once and no gap."""

import os
import random
import subprocess
import sys
import threading
import time

import pytest
from django.db import connection, transaction

from portal.audit import sealing, verifying
from portal.audit import services as audit
from portal.audit.models import AuditEntry, AuditSeal, AuditUnsealed
from tests.worker_support import database_url

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.embedded]


def child(*arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "DATABASE_URL": database_url(connection.settings_dict)}
    command = [sys.executable, "-m", "tests.portal.audit_child", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def test_writers_and_sealers_beside_each_other_and_sealers_that_are_killed():
    chance = random.Random(4)
    writers = [child("write", name, "60") for name in ("one", "two")]
    sealers = [child("seal")]
    kills = 0
    try:
        while kills < 3:
            sealers.append(child("seal"))
            assert sealers[-1].stdout is not None
            assert sealers[-1].stdout.readline() == "sealing\n"
            time.sleep(chance.random() * 0.15)
            sealers[-1].kill()
            sealers[-1].wait()
            kills += 1
        assert [writer.wait(120) for writer in writers] == [0, 0]
    finally:
        for process in [*writers, *sealers]:
            process.kill()
            process.wait()
            process.stdout.close()
    sealing.seal_all()
    verdict = verifying.verify()
    assert (verdict.problem, verdict.entries, verdict.waiting) == (None, 120, 0)
    for name in ("one", "two"):
        own = (
            AuditEntry.objects.filter(data__writer=name).values_list("data", "seal__sequence").order_by("id")
        )
        assert [data["number"] for data, _ in own] == list(range(60))
        places = [sequence for _, sequence in own]
        assert places == sorted(places), "a writer's own entries keep their order"


@pytest.mark.postgres
def test_an_entry_that_commits_late_is_sealed_behind_those_that_were_faster():
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one writer at a time")
    begun, may_commit = threading.Event(), threading.Event()
    late: list[int] = []

    def slow():
        with transaction.atomic():
            late.append(audit.record("late", actor=None).pk)
            begun.set()
            assert may_commit.wait(30)
        connection.close()

    thread = threading.Thread(target=slow)
    thread.start()
    assert begun.wait(30)
    fast = audit.record("fast", actor=None)
    assert fast.pk > late[0]
    assert AuditSeal.objects.get().entry_id == fast.pk
    may_commit.set()
    thread.join(30)
    assert list(AuditSeal.objects.order_by("sequence").values_list("entry_id", flat=True)) == [
        fast.pk,
        late[0],
    ]
    assert verifying.verify().entries == 2


@pytest.mark.postgres
def test_a_second_sealer_leaves_while_the_first_is_at_it():
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one writer at a time")
    holds, may_go = threading.Event(), threading.Event()

    def other():
        with transaction.atomic():
            assert sealing._alone()
            holds.set()
            assert may_go.wait(30)
        connection.close()

    thread = threading.Thread(target=other)
    thread.start()
    assert holds.wait(30)
    audit.record("x", actor=None)
    assert sealing.seal_all() == 0
    assert AuditUnsealed.objects.count() == 1
    may_go.set()
    thread.join(30)
    assert sealing.seal_all() == 1


def test_an_entry_is_sealed_as_soon_as_it_is_committed():
    with transaction.atomic():
        entry = audit.record("x", actor=None)
        assert not AuditSeal.objects.exists()
    assert entry.seal.sequence == 1


def test_a_failing_sealer_does_not_break_what_was_committed(monkeypatch):
    def fail():
        raise RuntimeError("no")

    monkeypatch.setattr(sealing, "seal_batch", fail)
    audit.record("x", actor=None)
    assert AuditUnsealed.objects.count() == 1
    monkeypatch.undo()
    assert sealing.seal_all() == 1
