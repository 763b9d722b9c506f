# SPDX-License-Identifier: GPL-3.0-or-later
import pytest

from portal import logs
from portal.audit import services as audit
from portal.audit.models import AuditEntry, AuditIsAppendOnly
from tests.factories import (
    EnvironmentFactory,
    JobFactory,
    MembershipFactory,
    PointFactory,
    TeamFactory,
    UserFactory,
    VmFactory,
)

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]


@pytest.fixture
def entry():
    return audit.record("backup.start", actor=UserFactory(username="alice"), subject=VmFactory(name="web-01"))


def _save(entry):
    entry.actor_name = "mallory"
    entry.save()


@pytest.mark.parametrize(
    "change",
    [
        _save,
        lambda entry: entry.delete(),
        lambda entry: AuditEntry.objects.all().delete(),
        lambda entry: AuditEntry.objects.filter(pk=entry.pk).update(actor_name="mallory"),
        lambda entry: AuditEntry.objects.bulk_update([entry], ["actor_name"]),
        lambda entry: AuditEntry(pk=entry.pk, actor_name="mallory").save(force_update=True),
        lambda entry: AuditEntry.objects.update_or_create(
            defaults={"actor_name": "mallory"}, uuid=entry.uuid
        ),
        lambda entry: AuditEntry.objects.bulk_create(
            [AuditEntry(uuid=entry.uuid, actor_name="mallory")],
            update_conflicts=True,
            update_fields=["actor_name"],
            unique_fields=["uuid"],
        ),
        lambda entry: AuditEntry.objects.bulk_create([AuditEntry(pk=entry.pk, actor_name="mallory")]),
    ],
    ids=["save", "delete", "all", "update", "bulk_update", "force", "update_or_create", "upsert", "same_pk"],
)
def test_entries_can_neither_be_changed_nor_deleted(entry, change):
    with pytest.raises(AuditIsAppendOnly):
        change(entry)
    assert AuditEntry.objects.get().actor_name == "alice"


def test_names_outlive_those_who_bore_them(entry):
    person, vm = entry.actor, VmFactory._meta.model.objects.get()
    person.delete()
    vm.delete()
    kept = AuditEntry.objects.get()
    assert (kept.actor_name, kept.object_label, kept.object_id) == ("alice", "web-01", str(vm.uuid))
    assert "alice backup.start web-01" in str(kept)


def test_entries_bear_the_id_of_their_request():
    token = logs.request_id.set("request-0001")
    try:
        assert audit.record("x", actor=None).request_id == "request-0001"
    finally:
        logs.request_id.reset(token)
    assert audit.record("x", actor=None).request_id == ""


def test_the_portal_itself_is_named_when_nobody_asked():
    entry = audit.record("x", actor=None, via="schedule")
    assert (entry.actor, entry.actor_name, entry.via) == (None, "portal", "schedule")


def test_nul_characters_do_not_keep_an_entry_from_being_written():
    audit.record("login.refused", actor=None, username="al\0ice")
    assert "\0" not in AuditEntry.objects.get().data["username"]


def test_an_entry_remembers_whose_machine_it_was_about():
    vm, team, later = VmFactory(), TeamFactory(), TeamFactory()
    vm.teams.add(team)
    job = JobFactory(vm=vm)
    for subject in (vm, job, PointFactory(vm=vm)):
        entry = audit.record("x", actor=None, subject=subject)
        assert (entry.vm, entry.teams) == (vm.uuid, [str(team.uuid)])
    vm.teams.set([later])
    entry.refresh_from_db()
    assert entry.teams == [str(team.uuid)]
    assert [link.team for link in entry.team_links.all()] == [team.uuid]


def test_an_entry_about_a_person_is_of_their_teams_and_one_about_a_manager_of_none():
    membership = MembershipFactory()
    person, team = membership.user, str(membership.team.uuid)
    assert audit.record("login", actor=person).teams == [team]
    assert audit.record("password.change", actor=None, subject=person).teams == [team]
    assert audit.record("team.change", actor=None, subject=membership.team).teams == [team]
    assert audit.record("environment.change", actor=person, subject=EnvironmentFactory()).teams == []
    assert audit.record("job.cancel", actor=person, subject=JobFactory(vm=None)).teams == []


@pytest.mark.parametrize(
    ("given", "kept"),
    [("10.1.2.3", "10.1.2.3"), ("fe80::1%eth0", "fe80::1"), ("", None), ("unix:", None)],
)
def test_the_address_of_the_request_is_kept(given, kept):
    token = logs.address.set(given)
    try:
        assert audit.record("x", actor=None).address == kept
    finally:
        logs.address.reset(token)
