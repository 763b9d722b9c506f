# SPDX-License-Identifier: GPL-3.0-or-later
"""What a team may take up."""

import uuid

import pytest
from django.test import Client
from django.urls import reverse

from backups import quotas, services
from backups.errors import QuotaReached
from backups.store import ChunkWriter
from portal import wording
from portal.audit.models import AuditEntry
from portal.errors import NotAllowed
from portal.jobs.models import Job
from portal.jobs.states import JobState
from portal.teams.services import set_quotas
from restores.plans import plan_new_vm
from restores.services import start_restore
from tests.backups.support import disk_of, manifest_of
from tests.factories import PointFactory, TeamFactory, VmFactory
from tests.store.support import MIB

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]


def limit(people, **limits):
    wanted = {"points": None, "size_bytes": None, "restores": None, **limits}
    set_quotas(actor=people.root, team=people.team, **wanted)
    people.team.refresh_from_db()


def publish_chunks(repository, vm, size, contents):
    """A point of one disk whose chunks are those bytes, one each."""
    store = repository.open()
    disk = disk_of("system", size_bytes=size)
    staged = store.stage_point(vm.environment.uuid, vm.manager_id, uuid.uuid4())
    with ChunkWriter(store.chunks) as writer:
        index = staged.disk_index(disk["disk_id"], size, MIB)
        for number, byte in enumerate(contents):
            writer.add(index, number, memoryview(bytes([byte]) * index.length_of(number)))
    return staged.publish(manifest_of(vm, [disk]), still_owner=lambda: True)


@pytest.mark.parametrize(
    ("size", "contents", "counted"),
    [
        (3 * MIB, [1, 0, 2], 2 * MIB),
        (3 * MIB, [0, 0, 0], 0),
        (2 * MIB + 4096, [1, 1, 5], 2 * MIB + 4096),
        (2 * MIB + 4096, [0, 1, 0], MIB),
        (4096, [0], 0),
        (4096, [7], 4096),
    ],
)
def test_what_a_point_references(repository, vm, size, contents, counted):
    stored = publish_chunks(repository, vm, size, contents)
    assert quotas.referenced_bytes(stored) == counted
    assert services.record_point(repository, vm, stored, None).referenced_bytes == counted


def test_an_index_that_cannot_be_read_counts_as_unknown(repository, vm):
    stored = publish_chunks(repository, vm, MIB, [1])
    index = stored.index_path(stored.disk_ids[0])
    index.chmod(0o600)
    index.write_bytes(b"x" * index.stat().st_size)
    assert quotas.referenced_bytes(stored) is None


def test_use_is_of_the_teams_kept_points(people, vm, repository):
    for changes in ({"referenced_bytes": 10}, {"referenced_bytes": None, "bytes_stored": 5}):
        PointFactory(vm=vm, repository=repository, **changes)
    PointFactory(vm=vm, repository=repository, referenced_bytes=99, deleted_at="2026-01-01T00:00:00Z")
    PointFactory(referenced_bytes=99)
    assert quotas.usage_of(people.team) == quotas.Usage(points=2, bytes=15, restores=0)


@pytest.mark.parametrize(
    ("limits", "told"),
    [({"points": 1}, "1 restore point of at most 1"), ({"size_bytes": 10}, "of restore points of at most")],
)
def test_a_full_quota_stops_the_next_backup_and_says_so(people, vm, repository, limits, told):
    PointFactory(vm=vm, repository=repository, referenced_bytes=10)
    limit(people, **limits)
    with pytest.raises(QuotaReached, match=told) as refused:
        services.start_vm_backup(actor=people.bob, vm=vm)
    assert "platform admin" in refused.value.hint
    assert not Job.objects.exists()
    limit(people, points=2, size_bytes=11)
    assert services.start_vm_backup(actor=people.bob, vm=vm).state == JobState.PENDING


def test_another_teams_quota_does_not_count(people, vm, repository):
    other = TeamFactory()
    set_quotas(actor=people.root, team=other, points=0, size_bytes=0, restores=0)
    assert services.start_vm_backup(actor=people.bob, vm=vm).state == JobState.PENDING


def test_restores_at_once_are_counted_until_they_are_over(people, vm, point):
    def order(name):
        plan = plan_new_vm(point, name=name)
        return start_restore(actor=people.bob, point=point, plan=plan, plan_hash=plan.hash).job

    limit(people, restores=1)
    first = order("one")
    with pytest.raises(QuotaReached, match="1 restore under way of at most 1"):
        order("two")
    assert Job.objects.count() == 1
    Job.objects.filter(pk=first.pk).update(state=JobState.SUCCEEDED)
    assert order("two").state == JobState.PENDING


def test_only_platform_admins_set_quotas_and_it_stands_in_the_history(people):
    with pytest.raises(NotAllowed):
        set_quotas(actor=people.alice, team=people.team, points=9, size_bytes=None, restores=None)
    limit(people, points=9)
    limit(people, points=9)
    entry = AuditEntry.objects.get(action="team.quotas")
    assert (entry.data["before"]["quota_points"], entry.data["after"]["quota_points"]) == (None, 9)


def test_the_teams_page_shows_and_changes_them(people, vm, repository):
    PointFactory(vm=vm, repository=repository, referenced_bytes=3 << 30)
    client = Client()
    client.force_login(people.root)
    url = reverse("teams:team_quotas", args=[people.team.uuid])
    assert client.post(url, {"points": "-1"}).status_code == 422
    assert client.post(url, {"points": "5", "gib": "8", "restores": ""}).status_code == 302
    people.team.refresh_from_db()
    assert (people.team.quota_points, people.team.quota_bytes, people.team.quota_restores) == (
        5,
        8 << 30,
        None,
    )
    page = client.get(people.team.get_absolute_url()).content.decode()
    assert "Of at most 5" in page and f"Of at most {wording.size(8 << 30)}" in page and "No limit" in page


def test_a_strangers_machine_is_of_no_teams_quota(people):
    quotas.require_room_for_a_point(VmFactory())
