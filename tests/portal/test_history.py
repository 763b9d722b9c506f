# SPDX-License-Identifier: GPL-3.0-or-later
"""The history: who sees which rows, what each filter leaves, what leaves the portal, days and numbers."""

import csv
import datetime as dt
import io
import json
import uuid

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from portal.accounts.models import User
from portal.accounts.roles import Role
from portal.audit import sealing
from portal.audit import services as audit
from portal.audit.models import AuditEntry
from portal.environments.models import VirtualMachine
from portal.history import presenters
from portal.jobs.models import Job
from tests.factories import (
    EnvironmentFactory,
    JobFactory,
    MembershipFactory,
    PointFactory,
    RepositoryFactory,
    TeamFactory,
    UserFactory,
    VmFactory,
)

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]

DAY = dt.timedelta(days=1)


def signed_in(person: User) -> Client:
    client = Client()
    client.force_login(person)
    return client


def done(vm=None, *, days_ago: float = 0, **changes) -> Job:
    """A row of the history; of a machine of its own unless one is given."""
    vm = vm or VmFactory()
    job = JobFactory(vm=vm, **{"state": "succeeded", **changes})
    Job.objects.filter(pk=job.pk).update(created_at=timezone.now() - days_ago * DAY)
    return job


def found(client: Client, **params: str) -> set[uuid.UUID]:
    response = client.get(reverse("history:list"), params)
    assert response.status_code == 200
    return {row.uuid for row in response.context["page"].rows}


@pytest.fixture
def root(people) -> Client:
    return signed_in(people.root)


# --- filters ------------------------------------------------------------------------------------------


def by_kind():
    return {"kind": "vm_restore"}, {"kind": "restore"}


def by_person():
    return {"requested_by_name": "zoe"}, {"who": "zoe"}


def by_person_in_capitals():
    return {"requested_by_name": "zoe"}, {"who": "ZOE"}


def by_whom():
    return {"requested_for": "Zoe of sales"}, {"whom": "Zoe of sales"}


def by_ticket():
    return {"ticket": "INC0012345"}, {"ticket": "inc0012345"}


def by_environment():
    environment = EnvironmentFactory()
    return {"vm": VmFactory(environment=environment)}, {"environment": str(environment.uuid)}


def by_team():
    vm, team = VmFactory(), TeamFactory()
    vm.teams.add(team)
    return {"vm": vm}, {"team": str(team.uuid)}


def by_machine():
    vm = VmFactory()
    return {"vm": vm}, {"vm": str(vm.uuid)}


def by_a_part_of_the_name():
    return {"vm": VmFactory(name="accounting-7")}, {"q": "COUNTING"}


def by_the_name_of_then():
    return {"vm": VmFactory(name="new-name"), "vm_name": "old-name"}, {"q": "old-name"}


def by_method():
    return {"method": "snapshot_attach"}, {"method": "snapshot_attach"}


def by_mode():
    return {"mode": "mixed"}, {"mode": "mixed"}


def by_failure():
    return {"state": "failed"}, {"result": "failed"}


def by_warnings():
    return {"warnings": ["Left."]}, {"result": "warned"}


def by_being_under_way():
    return {"state": "waiting"}, {"result": "unfinished"}


def by_day():
    day = timezone.localdate() - 10 * DAY
    return {"days_ago": 10}, {"since": day.isoformat(), "until": day.isoformat()}


@pytest.mark.parametrize(
    "case",
    [
        by_kind,
        by_person,
        by_person_in_capitals,
        by_whom,
        by_ticket,
        by_environment,
        by_team,
        by_machine,
        by_a_part_of_the_name,
        by_the_name_of_then,
        by_method,
        by_mode,
        by_failure,
        by_warnings,
        by_being_under_way,
        by_day,
    ],
)
def test_a_filter_in_the_address_leaves_what_it_says(root, case):
    made, params = case()
    wanted, other = done(**made), done(days_ago=1)
    JobFactory(kind="point_verify")
    assert found(root) == {wanted.uuid, other.uuid}
    assert found(root, **params) == {wanted.uuid}


def test_succeeded_means_without_warnings(root):
    clean, _ = done(), done(warnings=["Left."])
    assert found(root, result="ok") == {clean.uuid}


def test_filters_go_together(root):
    wanted = done(ticket="A-1", state="failed")
    done(ticket="A-1"), done(state="failed")
    assert found(root, ticket="A-1", result="failed") == {wanted.uuid}


@pytest.mark.parametrize(
    "params",
    [
        {"since": "nonsense"},
        {"since": "0001-01-01"},
        {"until": "9999-12-31"},
        {"vm": "nonsense"},
        {"team": "nonsense"},
        {"team": "00000000-0000-0000-0000-000000000000"},
        {"kind": "nonsense"},
        {"ticket": "x" * 101},
    ],
)
def test_a_filter_that_makes_no_sense_lists_and_exports_nothing_and_says_so(root, params):
    """An auditor must not take a longer list for the one that was asked for."""
    done()
    assert found(root, **params) == set()
    page = root.get(reverse("history:list"), params)
    assert "A filter makes no sense" in page.content.decode()
    assert root.get(reverse("history:export_csv"), params).status_code == 400
    assert not AuditEntry.objects.filter(action="history.export").exists()
    assert "no day is counted" in root.get(reverse("history:calendar"), params).content.decode()


def test_the_list_is_paged_and_a_made_up_cursor_begins_anew(root):
    vm = VmFactory()
    for _ in range(60):
        done(vm)
    page = root.get(reverse("history:list"), {"result": "ok"}).context["page"]
    assert (len(page.rows), page.shown, page.newer_url) == (50, "50 of 60 jobs", "")
    older = root.get(reverse("history:list") + page.older_url).context["page"]
    assert (len(older.rows), older.older_url) == (10, "")
    assert not {row.pk for row in page.rows} & {row.pk for row in older.rows}
    assert root.get(reverse("history:list"), {"cursor": "x"}).context["page"].rows == page.rows


def test_names_stay_when_the_machine_is_renamed_and_the_person_is_gone(root):
    person = UserFactory(username="zoe")
    job = done(VmFactory(name="old-name"), requested_by=person, requested_by_name="zoe")
    VirtualMachine.objects.update(name="new-name")
    person.delete()
    row = presenters.rows([Job.objects.select_related("vm").get(pk=job.pk)])[0]
    assert [row["cells"][0]["value"], row["cells"][3]["value"]] == ["Backup of old-name", "zoe"]


# --- rights -------------------------------------------------------------------------------------------


@pytest.fixture
def team_row(people) -> Job:
    vm = VmFactory(name="shop-db")
    vm.teams.add(people.team)
    return done(vm)


@pytest.mark.parametrize("name", ["alice", "bob", "carol", "root"])
def test_people_of_the_team_see_its_rows_and_others_do_not(people, team_row, name):
    done()
    rows = found(signed_in(getattr(people, name)))
    assert team_row.uuid in rows
    assert len(rows) == (2 if name == "root" else 1)
    assert found(signed_in(people.dave)) == set()


def test_a_persons_own_request_is_seen_whoever_has_the_machine_now(people, team_row):
    own = done(requested_by=people.dave)
    assert found(signed_in(people.dave)) == {own.uuid}


def test_another_teams_machine_is_not_told_of_by_any_filter(people, team_row):
    client = signed_in(people.dave)
    for params in ({"q": "shop-db"}, {"vm": str(team_row.vm.uuid)}, {"team": str(people.team.uuid)}):
        page = client.get(reverse("history:list"), params)
        assert page.context["page"].rows == []
        assert "See the machine" not in page.content.decode()
    assert people.team.name not in client.get(reverse("history:list")).content.decode()


@pytest.mark.parametrize(("name", "status"), [("root", 200), ("alice", 200), ("bob", 403), ("carol", 403)])
def test_only_those_who_may_read_the_history_take_it_away(people, team_row, name, status):
    client = signed_in(getattr(people, name))
    for address in ("history:export_csv", "history:export_json_lines"):
        assert client.get(reverse(address)).status_code == status
    assert (reverse("history:export_csv") in client.get(reverse("history:list")).content.decode()) == (
        status == 200
    )


def test_an_auditor_takes_away_rows_of_the_audited_team_alone(people, team_row):
    auditor = MembershipFactory(team=people.team, role=Role.AUDITOR).user
    viewed = VmFactory()
    viewed.teams.add(MembershipFactory(user=auditor, role=Role.VIEWER).team)
    seen_only = done(viewed)
    client = signed_in(auditor)
    assert found(client) == {team_row.uuid, seen_only.uuid}
    lines = client.get(reverse("history:export_json_lines")).getvalue().decode().splitlines()
    assert [json.loads(line)["id"] for line in lines] == [str(team_row.uuid)]


# --- files --------------------------------------------------------------------------------------------


def test_csv_holds_all_pages_of_what_was_asked_for_and_no_formula(root, people):
    vm = VmFactory(name="=1+1")
    for _ in range(1005):
        done(vm, ticket="A-1", requested_for="@whom")
    done(ticket="B-1")
    text = root.get(reverse("history:export_csv"), {"ticket": "A-1"}).getvalue().decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == len({row["id"] for row in rows}) == 1005
    assert {(row["machine"], row["asked_for"], row["ticket"]) for row in rows} == {("'=1+1", "'@whom", "A-1")}
    entry = AuditEntry.objects.get(action="history.export")
    assert (entry.actor, entry.data) == (people.root, {"format": "csv", "filters": {"ticket": "A-1"}})


def test_a_file_is_read_by_one_query_for_each_part_of_it(root, django_assert_max_num_queries):
    for _ in range(40):
        done(ticket="A-1")
    with django_assert_max_num_queries(25):
        assert root.get(reverse("history:export_csv")).getvalue().count(b"A-1") == 40


def test_json_lines_hold_names_as_they_are(root):
    environment = EnvironmentFactory(name="Main")
    job = done(
        VmFactory(name="=1+1\n", environment=environment),
        warnings=["a", "b"],
        kind="vm_restore",
        params={"plan": {"name": "copy"}},
    )
    row = json.loads(root.get(reverse("history:export_json_lines")).getvalue())
    assert tuple(row) == presenters.EXPORTED
    assert (row["id"], row["machine"], row["kind"]) == (str(job.uuid), "=1+1\n", "restore")
    assert (row["manager"], row["target"], row["warnings"]) == ("Main", "copy", 2)
    assert dt.datetime.fromisoformat(row["asked_at"]).tzinfo is not None


# --- calendar -----------------------------------------------------------------------------------------


def cells(client: Client, **params: str) -> dict[tuple[str, int], object]:
    response = client.get(reverse("history:calendar"), params)
    return {
        (month.label, cell.day): cell
        for month in response.context["months"]
        for week in month.weeks
        for cell in week
        if cell.day
    }


def test_a_day_says_its_worst_in_words_and_leads_to_its_rows(root):
    noon = timezone.make_aware(dt.datetime(2026, 3, 3, 12))
    failed = [done(state=state) for state in ("succeeded", "failed", "cancelled")]
    for job in [*failed, done(kind="vm_restore", state="failed")]:
        Job.objects.filter(pk=job.pk).update(created_at=noon)
    found_cells = cells(root, month="2026-04")
    cell = found_cells["March 2026", 3]
    assert cell.worst == "failed"
    assert cell.words == "Tuesday 3 March: 1 succeeded, 1 failed, 1 cancelled or unfinished"
    listed = root.get(cell.url).context["page"].rows
    assert {row.uuid for row in listed} == {job.uuid for job in failed}
    assert {(month, found_cells[month, 4].worst) for month, day in found_cells if day == 4} == {
        ("February 2026", "none"),
        ("March 2026", "none"),
        ("April 2026", "none"),
    }


def test_a_calendar_of_one_machine_counts_only_it_and_keeps_it_in_its_links(root):
    mine = done()
    done(state="failed")
    today = timezone.localdate()
    cell = next(
        cell
        for (_, day), cell in cells(root, vm=str(mine.vm.uuid)).items()
        if day == today.day and cell.is_today
    )
    assert (cell.worst, cell.total) == ("ok", 1)
    assert f"vm={mine.vm.uuid}" in cell.url


def test_days_begin_at_midnight_of_the_portals_time_zone(root):
    with timezone.override("Asia/Tokyo"):
        job = done()
        Job.objects.filter(pk=job.pk).update(created_at=dt.datetime(2026, 3, 2, 16, tzinfo=dt.UTC))
        cell = cells(root, month="2026-03")["March 2026", 3]
        assert cell.total == 1
        assert [row.uuid for row in root.get(cell.url).context["page"].rows] == [job.uuid]


@pytest.mark.parametrize("month", ["nonsense", "2026-13", "0001-01", "9999-12", "1970-01", "-1"])
def test_an_odd_month_is_no_crash(root, month):
    assert len(root.get(reverse("history:calendar"), {"month": month}).context["months"]) == 3


# --- coverage -----------------------------------------------------------------------------------------


def test_coverage_counts_by_team_and_manager_and_says_what_is_not_known(root, people):
    environment, away = EnvironmentFactory(name="Main"), RepositoryFactory(problem="It is not mounted.")
    vms = VmFactory.create_batch(6, environment=environment)
    good, unread, unheard, gone, failing, _none = vms
    for vm in vms[:3]:
        vm.teams.add(people.team)
    for vm in (good, unheard, gone, failing):
        PointFactory(vm=vm)
    PointFactory(vm=unread, repository=away)
    VirtualMachine.objects.filter(pk=unheard.pk).update(seen_at=timezone.now() - DAY)
    VirtualMachine.objects.filter(pk=gone.pk).update(gone_at=timezone.now())
    done(failing, state="failed", finished_at=timezone.now())
    coverage = root.get(reverse("history:coverage")).context["coverage"]
    counts = {"protected": 1, "stale": 0, "failing": 1, "unprotected": 1, "unknown": 3}
    assert dict(coverage.all.cells) == counts
    assert [number for _, number in coverage.doubts] == [1, 1, 1]
    by_team = {tally.label: dict(tally.cells) for tally in coverage.by_team}
    assert by_team["Web shop"] == dict.fromkeys(counts, 0) | {"protected": 1, "unknown": 2}
    assert by_team["In none of these teams"]["unprotected"] == 1
    assert [(tally.label, tally.total) for tally in coverage.by_environment] == [("Main", 6)]


def test_the_numbers_of_coverage_lead_to_lists_of_as_many_machines(people):
    vms = VmFactory.create_batch(3)
    for vm in vms[:2]:
        vm.teams.add(people.team)
        PointFactory(vm=vm)
    client = signed_in(people.alice)
    page = client.get(reverse("history:coverage"))
    coverage = page.context["coverage"]
    assert (coverage.all.total, coverage.protected_share) == (2, "100 %")
    team, environment = coverage.by_team[0], coverage.by_environment[0]
    for params, number in (
        ({"status": "protected"}, 2),
        ({"status": "protected", "team": str(team.of.uuid)}, 2),
        ({"environment": str(environment.of.uuid)}, environment.total),
    ):
        assert len(client.get(reverse("environments:vm_list"), params).context["rows"]) == number
    dave = signed_in(people.dave)
    assert dave.get(reverse("history:coverage")).context["coverage"].all.total == 0
    for params in ({"team": str(people.team.uuid)}, {"environment": str(environment.of.uuid)}, {"team": "x"}):
        assert dave.get(reverse("environments:vm_list"), params).status_code == 404


def test_coverage_is_printed_with_the_time_and_the_head_of_the_audit_chain(root):
    audit.record("login", actor=None)
    VmFactory()
    assert sealing.seal_all() == 1
    page = root.get(reverse("history:coverage"))
    seal = page.context["seal"]
    assert seal is not None
    assert seal.hash in page.content.decode()
