# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores that wait for a second person."""

import datetime as dt
import threading

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from portal.accounts.limits import Limits
from portal.accounts.models import Membership, Team
from portal.accounts.roles import Role
from portal.audit.models import AuditEntry
from portal.errors import NotAllowed
from portal.events.models import Event
from portal.jobs import services as jobs
from portal.jobs.states import JobState
from portal.teams.services import set_approval
from restores import approvals
from restores.errors import AlreadyDecided, ApprovalMissing
from restores.models import Approval, Restore
from restores.plans import plan_new_vm
from restores.records import restore_of
from restores.services import start_restore
from tests.factories import MembershipFactory, TeamFactory, UserFactory

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]


def order(person, point) -> Restore:
    plan = plan_new_vm(point, name="web-01-restored")
    return start_restore(actor=person, point=point, plan=plan, plan_hash=plan.hash, ticket="CHG-9")


@pytest.fixture
def strict(people) -> Team:
    """The team asks for consent to every restore; amy is its second admin."""
    set_approval(actor=people.root, team=people.team, approval=Team.Approval.EVERY)
    return people.team


@pytest.fixture
def amy(people):
    return MembershipFactory(team=people.team, user=UserFactory(username="amy"), role=Role.ADMIN).user


def kinds(job):
    return list(Event.objects.filter(job_uuid=job.uuid).order_by("id").values_list("kind", flat=True))


def test_without_a_team_that_asks_for_it_nothing_waits(people, point):
    assert order(people.bob, point).job.state == JobState.PENDING
    assert not Approval.objects.exists()


def test_a_restore_waits_and_begins_when_somebody_else_agrees(people, point, strict):
    restore = order(people.bob, point)
    job = restore.job
    job.refresh_from_db()
    approval = restore.approval
    assert job.state == JobState.WAITING
    assert job.waiting_url == approval.get_absolute_url()
    assert "Web shop" in job.waiting_for
    assert not job.locks.exists()
    with pytest.raises(NotAllowed, match="own restore"):
        approvals.approve(actor=people.bob, restore=restore)
    with pytest.raises(NotAllowed, match="role"):
        approvals.approve(actor=people.carol, restore=restore)
    with pytest.raises(NotAllowed):
        approvals.approve(actor=people.dave, restore=restore)
    approvals.approve(actor=people.alice, restore=restore, why="Seen with the owner")
    job.refresh_from_db()
    approval.refresh_from_db()
    assert (job.state, job.waiting_for, job.waiting_url) == (JobState.PENDING, "", "")
    assert (approval.decision, approval.decided_by, approval.decided_why) == (
        "approved",
        "alice",
        "Seen with the owner",
    )
    entry = AuditEntry.objects.get(action="restore.approve")
    assert (entry.actor_name, entry.ticket, entry.data["requested_by"]) == ("alice", "CHG-9", "bob")
    assert kinds(job) == ["job.waiting"]
    approvals.require_consent(restore)


def test_an_admin_does_not_approve_their_own_order(people, point, strict, amy):
    restore = order(people.alice, point)
    with pytest.raises(NotAllowed, match="own restore"):
        approvals.approve(actor=people.alice, restore=restore)
    assert approvals.approve(actor=amy, restore=restore).state == JobState.PENDING


def test_even_a_platform_admin_does_not_approve_their_own_order(people, point, strict):
    restore = order(people.root, point)
    with pytest.raises(NotAllowed, match="own restore"):
        approvals.approve(actor=people.root, restore=restore)
    approvals.approve(actor=people.alice, restore=restore)


def test_refused_it_ends_with_the_reason_and_nothing_made(people, point, strict):
    restore = order(people.bob, point)
    job = approvals.refuse(actor=people.alice, restore=restore, why="Wrong machine")
    assert (job.state, job.error_code) == (JobState.FAILED, "approval_refused")
    assert "alice did not approve this restore: Wrong machine" in job.error_message
    assert kinds(job) == ["job.waiting", "job.failed"]
    for late in (approvals.approve, approvals.refuse):
        with pytest.raises(AlreadyDecided):
            late(actor=people.alice, restore=restore, why="x")
    with pytest.raises(ApprovalMissing):
        approvals.require_consent(restore)


def test_a_repeated_job_is_no_way_around(people, point, strict):
    restore = order(people.bob, point)
    approvals.refuse(actor=people.alice, restore=restore, why="No")
    again = jobs.retry_job(actor=people.bob, job=restore.job)
    with pytest.raises(ApprovalMissing, match="none"):
        approvals.require_consent(restore_of(again))


def test_a_repeated_job_goes_on_by_the_consent_to_the_first(people, point, strict):
    restore = order(people.bob, point)
    approvals.approve(actor=people.alice, restore=restore)
    restore.job.state = JobState.FAILED
    restore.job.save()
    again = jobs.retry_job(actor=people.bob, job=restore.job)
    approvals.require_consent(restore_of(again))


def test_nobody_in_time_means_no(people, point, strict):
    restore = order(people.bob, point)
    assert approvals.expire() == 0
    Approval.objects.update(expires_at=timezone.now() - dt.timedelta(seconds=1))
    with pytest.raises(AlreadyDecided):
        approvals.approve(actor=people.alice, restore=restore)
    assert approvals.expire() == 1
    assert approvals.expire() == 0
    restore.job.refresh_from_db()
    assert (restore.job.state, restore.job.error_code) == (JobState.FAILED, "approval_expired")
    assert AuditEntry.objects.get(action="restore.expire").actor_name == "portal"


def test_cancelled_it_can_no_longer_be_approved(people, point, strict):
    restore = order(people.bob, point)
    jobs.cancel_job(actor=people.bob, job=restore.job)
    with pytest.raises(AlreadyDecided):
        approvals.approve(actor=people.alice, restore=restore)
    assert restore.approval.decision == ""
    restore.job.refresh_from_db()
    assert restore.job.state == JobState.CANCELLED


def test_consent_does_not_give_back_a_right_that_was_lost(people, point, strict):
    restore = order(people.bob, point)
    Membership.objects.filter(user=people.bob).delete()
    with pytest.raises(ApprovalMissing, match="bob may no longer"):
        approvals.approve(actor=people.alice, restore=restore)
    restore.job.refresh_from_db()
    assert restore.job.state == JobState.WAITING
    approvals.refuse(actor=people.alice, restore=restore, why="Left the team")


def test_data_of_another_teams_time_is_that_teams_to_give(people, point):
    """The machine was Cellar's when the point was made; today it is the Web shop's."""
    cellar = TeamFactory(name="Cellar")
    keeper = MembershipFactory(team=cellar, role=Role.ADMIN).user
    helper = MembershipFactory(team=cellar, role=Role.OPERATOR).user
    point.teams_then = [str(cellar.uuid)]
    point.save()
    assert approvals.needed_for(point) is None
    set_approval(actor=people.root, team=cellar, approval=Team.Approval.CROSSING)
    restore = order(people.bob, point)
    assert "belonged to Cellar" in restore.approval.because
    for person in (people.alice, helper):
        with pytest.raises(NotAllowed):
            approvals.approve(actor=person, restore=restore)
    approvals.approve(actor=keeper, restore=restore)


def test_what_crosses_is_the_platform_admins_when_its_team_is_gone(people, point):
    gone = TeamFactory()
    point.teams_then = [str(gone.uuid)]
    point.save()
    gone.delete()
    set_approval(actor=people.root, team=people.team, approval=Team.Approval.CROSSING)
    restore = order(people.bob, point)
    with pytest.raises(NotAllowed):
        approvals.approve(actor=people.alice, restore=restore)
    approvals.approve(actor=people.root, restore=restore)


def test_a_team_of_then_that_still_has_the_machine_crosses_nothing(people, point):
    point.teams_then = [str(people.team.uuid), str(TeamFactory().uuid)]
    set_approval(actor=people.root, team=people.team, approval=Team.Approval.CROSSING)
    point.vm.teams.add(TeamFactory())
    assert approvals.needed_for(point) is None


def test_a_token_without_the_right_decides_nothing(people, point, strict):
    restore = order(people.bob, point)
    people.alice.limits = Limits(capabilities=frozenset())
    with pytest.raises(NotAllowed):
        approvals.approve(actor=people.alice, restore=restore)


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_of_two_who_decide_at_once_one_does(people, point, strict, amy):
    if connection.vendor != "postgresql":
        pytest.skip("SQLite lets one writer in at a time")
    restore = order(people.bob, point)
    both, outcomes = threading.Barrier(2), []

    def decide(actor, how):
        try:
            both.wait(20)
            how(actor=actor, restore=Restore.objects.get(pk=restore.pk), why="x")
            outcomes.append(how.__name__)
        except AlreadyDecided:
            outcomes.append("late")
        finally:
            connection.close()

    pairs = ((people.alice, approvals.approve), (amy, approvals.refuse))
    threads = [threading.Thread(target=decide, args=pair) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(outcomes) in (["approve", "late"], ["late", "refuse"])
    restore.job.refresh_from_db()
    assert restore.job.state == (JobState.PENDING if "approve" in outcomes else JobState.FAILED)


# --- pages ------------------------------------------------------------------------------------------


def signed_in(person) -> Client:
    client = Client()
    client.force_login(person)
    return client


def test_the_page_lets_the_right_people_decide(people, point, strict):
    restore = order(people.bob, point)
    url = restore.approval.get_absolute_url()
    assert "Approve the restore" in signed_in(people.alice).get(url).content.decode()
    own = signed_in(people.bob).get(url).content.decode()
    assert "somebody else decides" in own and "Approve the restore" not in own
    assert "Approve the restore" not in signed_in(people.carol).get(url).content.decode()
    assert signed_in(people.dave).get(url).status_code == 404
    assert signed_in(people.bob).post(f"{url}approve/").status_code == 403
    silent = signed_in(people.alice).post(f"{url}refuse/", {"why": " "}, follow=True)
    assert "Say why" in silent.content.decode()
    assert signed_in(people.alice).post(f"{url}approve/", {"why": "fine"}).status_code == 302
    assert "alice approved it." in signed_in(people.bob).get(url).content.decode()


def test_the_list_has_mine_to_decide_first(people, point, strict):
    restore = order(people.bob, point)
    mine = signed_in(people.alice).get(reverse("restores:approval_list"))
    assert [row["href"] for row in mine.context["mine"]] == [restore.approval.get_absolute_url()]
    assert mine.context["others"] == []
    bob = signed_in(people.bob).get(reverse("restores:approval_list"))
    assert (len(bob.context["mine"]), len(bob.context["others"])) == (0, 1)
    dave = signed_in(people.dave).get(reverse("restores:approval_list"))
    assert (dave.context["mine"], dave.context["others"]) == ([], [])


def test_the_overview_leads_to_what_waits(people, point, strict):
    restore = order(people.bob, point)
    page = signed_in(people.alice).get("/").content.decode()
    assert restore.approval.get_absolute_url() in page
