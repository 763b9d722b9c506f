# SPDX-License-Identifier: GPL-3.0-or-later
"""Many that wait for jobs leave a real web process free for others."""

import json
import threading

import pytest
from django.db import connection
from django.db.models.functions import Now

from portal.jobs.models import Job
from portal.jobs.states import JobState
from tests.api.support import token_of
from tests.api.web import Web
from tests.factories import JobFactory
from tests.worker_support import wait_for

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.embedded]


def open_since(moment):
    """Transactions on this database that were open at `moment` and still are, the asker's own left out."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT query FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid() AND xact_start <= %s",
            [moment],
        )
        return cursor.fetchall()


def test_waiting_requests_leave_threads_and_connections_to_others(people, tmp_path):
    job = JobFactory(vm=None, state=JobState.RUNNING)
    headers = {"Authorization": f"Bearer {token_of(people.root)}"}
    web, answers = Web.start(tmp_path / "web.log"), []
    path = f"/api/v1/jobs/{job.uuid}"

    def ask():
        status, told, body = web.send("GET", f"{path}?wait=30", **headers)
        answers.append((status, told.get("Retry-After"), json.loads(body)["state"]))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    try:
        for thread in threads:
            thread.start()
        wait_for(lambda: len(answers) >= 4, what="those beyond the limit to be answered")
        waiting_from = Job.objects.values_list(Now(), flat=True).get(pk=job.pk)
        for _ in range(20):
            assert web.send("GET", "/api/v1/vms", **headers)[0] == 200
        if connection.vendor == "postgresql":
            assert open_since(waiting_from) == []
        Job.objects.update(state=JobState.SUCCEEDED)
        for thread in threads:
            thread.join(60)
    finally:
        web.stop()
    assert sorted(answers, key=str) == sorted(
        [(200, "5", "running")] * 4 + [(200, None, "succeeded")] * 4, key=str
    )
