# SPDX-License-Identifier: GPL-3.0-or-later
"""A restore that waits for a second person, by the API."""

import pytest

from portal.accounts.models import Team
from portal.accounts.roles import Role
from portal.jobs.models import Job
from portal.teams.services import set_approval
from tests.api.support import api_of
from tests.backups.conftest import point, vm
from tests.factories import MembershipFactory, UserFactory

__all__ = ["point", "vm"]
pytestmark = [pytest.mark.django_db, pytest.mark.embedded]


@pytest.fixture
def waiting(people, point):
    """The address of a restore that bob ordered and that an admin of the team has to approve."""
    set_approval(actor=people.root, team=people.team, approval=Team.Approval.EVERY)
    wish, api = {"point": str(point.uuid), "name": "again"}, api_of(people.bob, "read", "restore")
    plan = api.post("restores/plan", wish).json()
    ordered = api.post("restores", {**wish, "plan_hash": plan["plan_hash"]}).json()
    assert (ordered["job"]["state"], ordered["approval"]["decision"]) == ("waiting", "")
    return ordered["url"]


def test_another_admin_approves_it_once(people, waiting):
    own = api_of(people.bob).post(f"{waiting}/approve")
    assert (own.status_code, own.json()["code"]) == (403, "not_allowed")
    assert api_of(people.alice, "restore").post(f"{waiting}/approve").json()["code"] == "scope_missing"
    assert api_of(people.dave).post(f"{waiting}/approve").status_code == 404
    alice = api_of(people.alice)
    first, again = (alice.post(f"{waiting}/approve", idempotency_key="ok") for _ in range(2))
    assert (first.status_code, first.json()["approval"]["decided_by"]) == (200, "alice")
    assert first.content == again.content
    assert Job.objects.get(kind="vm_restore").state == "pending"
    assert alice.post(f"{waiting}/refuse").json()["code"] == "already_decided"


def test_another_admin_refuses_it(people, waiting):
    amy = MembershipFactory(team=people.team, user=UserFactory(username="amy"), role=Role.ADMIN).user
    refused = api_of(amy, "admin").post(f"{waiting}/refuse", {"reason": "Not today"})
    assert (refused.status_code, refused.json()["approval"]["decision"]) == (200, "refused")
    assert refused.json()["job"]["state"] == "failed"
    assert "Not today" in refused.json()["job"]["error"]["message"]
