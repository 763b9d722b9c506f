# SPDX-License-Identifier: GPL-3.0-or-later
"""The web process is killed with SIGKILL while it writes; the client repeats its request with the same key."""

import http.client
import json

import pytest

from portal.api.models import KeptAnswer
from portal.jobs.models import Job
from tests.api.support import token_of
from tests.api.web import Web
from tests.backups.conftest import vm

__all__ = ["vm"]
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.embedded]


@pytest.fixture
def web(transactional_db, tmp_path):
    web = Web.start(tmp_path / "web.log", "tests.api.dying:application")
    yield web
    web.stop()


@pytest.mark.parametrize(("where", "done"), [("answer", 1), ("inside", 0)])
def test_a_repeated_write_is_done_once(people, vm, repository, web, where, done):
    order = {"vm": str(vm.uuid), "ticket": "INC-9"}
    headers = {"Authorization": f"Bearer {token_of(people.bob, 'backup')}", "Idempotency-Key": "INC-9/1"}
    with pytest.raises((OSError, http.client.HTTPException)):
        web.send("POST", "/api/v1/backups", order, X_Die=where, **headers)
    assert Job.objects.count() == KeptAnswer.objects.count() == done
    web.wait()
    answers = [web.send("POST", "/api/v1/backups", order, **headers) for _ in range(2)]
    job = Job.objects.get()
    for status, told, body in answers:
        assert (status, told["Location"]) == (202, f"/api/v1/jobs/{job.uuid}")
        assert json.loads(body)["uuid"] == str(job.uuid)
    assert [told.get("Idempotency-Replayed") for _, told, _ in answers] == ["true" if done else None, "true"]
