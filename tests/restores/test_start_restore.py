# SPDX-License-Identifier: GPL-3.0-or-later
import pytest
from django.test import Client
from django.urls import reverse

from portal.audit.models import AuditEntry
from portal.errors import NotAllowed
from portal.jobs import services as jobs
from portal.jobs.models import Job
from portal.jobs.states import JobState
from restores.errors import PlanBlocked, PlanChanged
from restores.models import Restore
from restores.plans import plan_new_vm
from restores.records import restore_of
from restores.services import start_restore
from tests.factories import PointFactory, VmFactory

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]


def start(person, point, *, plan_hash=None, plan=None, **wishes):
    plan = plan or plan_new_vm(point, **{"name": "web-01-restored", **wishes})
    return start_restore(
        actor=person, point=point, plan=plan, plan_hash=plan_hash or plan.hash, ticket="CHG-8"
    )


def assert_nothing_was_started():
    assert not Job.objects.exists()
    assert not Restore.objects.exists()
    assert not AuditEntry.objects.filter(action="restore.start").exists()


def test_an_operator_starts_exactly_what_was_shown(people, point):
    plan = plan_new_vm(point, name="web-01-restored")
    restore = start(people.bob, point, plan=plan)
    job = restore.job
    assert (job.state, job.task, job.ticket) == (JobState.PENDING, "restores.new_vm", "CHG-8")
    assert (restore.plan, restore.plan_hash, restore.target_name) == (
        plan.as_json(),
        plan.hash,
        "web-01-restored",
    )
    modes = {item["key"].partition(":")[0]: item["mode"] for item in job.lock_keys}
    assert modes == {
        "point": "shared",
        "name": "exclusive",
        "environment": "shared",
        "repository": "shared",
    }
    entry = AuditEntry.objects.get(action="restore.start")
    assert (entry.actor_name, entry.data["target"]) == ("bob", "web-01-restored")
    assert entry.data["plan_hash"] == plan.hash


@pytest.mark.parametrize("name", ["carol", "dave"])
def test_viewers_and_strangers_start_nothing(people, point, name):
    with pytest.raises(NotAllowed, match="restore"):
        start(getattr(people, name), point)
    assert_nothing_was_started()


def test_a_plan_that_was_not_shown_is_refused(people, point):
    shown = plan_new_vm(point, name="web-01-restored")
    with pytest.raises(PlanChanged):
        start(people.bob, point, plan_hash=shown.hash, network_plugged=True)
    with pytest.raises(PlanChanged):
        start_restore(actor=people.bob, point=point, plan=shown, plan_hash="")
    assert_nothing_was_started()


def test_a_world_that_changed_since_is_noticed(people, point):
    shown = plan_new_vm(point, name="web-01-restored")
    environment = point.vm.environment
    environment.storage_domains = [{**environment.storage_domains[0], "domain_id": "s9", "name": "data-9"}]
    environment.save()
    with pytest.raises(PlanChanged):
        start(people.bob, point, plan_hash=shown.hash)
    assert_nothing_was_started()


def test_a_blocked_plan_is_refused_with_its_reason(people, point):
    VmFactory(environment=point.vm.environment, name="web-01-restored")
    with pytest.raises(PlanBlocked, match="exists already"):
        start(people.bob, point)
    assert_nothing_was_started()


def test_the_plan_of_another_point_is_refused(people, point):
    plan = plan_new_vm(point, name="web-01-restored")
    another = PointFactory(vm=point.vm, repository=point.repository)
    with pytest.raises(PlanChanged):
        start_restore(actor=people.bob, point=another, plan=plan, plan_hash=plan.hash)
    assert_nothing_was_started()


def test_a_repeated_restore_gets_a_row_of_its_own_with_the_same_plan(people, point):
    first = start(people.bob, point)
    Job.objects.filter(pk=first.job.pk).update(state=JobState.FAILED)
    again = jobs.retry_job(actor=people.bob, job=Job.objects.get(pk=first.job.pk))
    second = restore_of(again)
    assert second.pk != first.pk
    assert (second.plan, second.plan_hash, second.point) == (first.plan, first.plan_hash, point)
    assert restore_of(again).pk == second.pk


def test_the_page_starts_the_plan_that_it_showed(people, point):
    client, address = Client(), reverse("restores:restore", args=[point.uuid])
    client.force_login(people.bob)
    plan = client.get(address).context["plan"]
    choices = {"name": plan.name, "cluster": "", "storage_domain": "", "network": "unplugged", "macs": "new"}
    refused = client.post(address, {**choices, "name": "another", "plan_hash": plan.hash})
    assert refused.status_code == 422
    assert not Job.objects.exists()
    moved = client.post(address, {**choices, "look": "1", "plan_hash": plan.hash})
    assert moved.status_code == 302
    assert moved.url.startswith(f"{address}?")
    assert "plan_hash" not in moved.url
    started = client.post(address, {**choices, "plan_hash": plan.hash})
    assert started.status_code == 302
    assert started.url == Restore.objects.get().job.get_absolute_url()
