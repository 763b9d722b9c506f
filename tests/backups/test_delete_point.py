# SPDX-License-Identifier: GPL-3.0-or-later
import pytest
from django.test import Client
from django.urls import reverse

from backups import services
from backups.errors import PointInUse
from backups.models import RestorePoint
from backups.store.errors import PointNotFound
from backups.store.repository import PointRef
from portal.audit.models import AuditEntry
from portal.errors import NotAllowed
from portal.jobs import locks
from portal.jobs.states import JobState
from tests.factories import JobFactory
from tests.portal.support import claimed

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]


def delete(actor, point, reason="retention"):
    services.delete_restore_point(actor=actor, point=point, reason=reason)
    point.refresh_from_db()


def ref_of(point, *, trashed=False) -> PointRef:
    vm = point.vm
    return PointRef(str(vm.environment.uuid), str(vm.manager_id), str(point.uuid), trashed)


def test_a_deleted_point_lies_in_the_trash_and_leaves_a_tombstone(people, point):
    store = point.repository.open()
    delete(people.alice, point, reason="asked by its owner")
    assert (point.deleted_by, point.deleted_why) == ("alice", "asked by its owner")
    assert point.deleted_at is not None
    assert not RestorePoint.objects.kept().exists()
    with pytest.raises(PointNotFound):
        store.open_ref(ref_of(point))
    assert store.open_ref(ref_of(point, trashed=True)).manifest["point"] == str(point.uuid)
    entry = AuditEntry.objects.get(action="point.delete")
    assert (entry.actor_name, entry.data["reason"]) == ("alice", "asked by its owner")
    delete(people.alice, point, reason="again")
    assert point.deleted_why == "asked by its owner"


@pytest.mark.parametrize("name", ["bob", "carol", "dave"])
def test_only_admins_delete(people, point, name):
    with pytest.raises(NotAllowed, match="delete restore points"):
        delete(getattr(people, name), point)
    assert point.repository.open().open_ref(ref_of(point)).manifest


def test_a_point_that_a_job_reads_stays(people, point):
    claimed(JobFactory(vm=point.vm, lock_keys=[locks.shared(point.lock_key).as_json()]))
    with pytest.raises(PointInUse):
        delete(people.alice, point)
    assert point.repository.open().open_ref(ref_of(point)).manifest


@pytest.mark.parametrize(("state", "needed"), [(JobState.PENDING, True), (JobState.FAILED, False)])
def test_a_point_that_a_job_is_about_to_read_stays(people, point, state, needed):
    JobFactory(vm=point.vm, kind="vm_restore", state=state, params={"point": str(point.uuid)})
    if needed:
        with pytest.raises(PointInUse):
            delete(people.alice, point)
    else:
        delete(people.alice, point)
    assert (point.deleted_at is None) == needed


def test_a_crash_between_the_move_and_the_row_is_mended_by_deleting_again(people, point):
    point.repository.open().trash_point(ref_of(point), reason="retention", by="alice")
    delete(people.alice, point)
    assert point.deleted_at is not None


def test_a_point_whose_files_are_nowhere_is_told(people, point):
    store = point.repository.open()
    store.folder_of(ref_of(point)).rename(store.path / "tmp" / "lost")
    with pytest.raises(PointNotFound):
        delete(people.alice, point)
    point.refresh_from_db()
    assert point.deleted_at is None


def test_the_page_asks_for_the_machines_name(people, point):
    client, address = Client(), reverse("backups:delete", args=[point.uuid])
    client.force_login(people.alice)
    client.post(address, {"confirm_name": "web-02", "reason": "x"})
    point.refresh_from_db()
    assert point.deleted_at is None
    client.post(address, {"confirm_name": " web-01 ", "reason": "x"})
    point.refresh_from_db()
    assert point.deleted_at is not None
    page = client.get(point.get_absolute_url())
    assert page.status_code == 200
    assert "casync extract" not in page.content.decode()
    assert client.get(reverse("restores:restore", args=[point.uuid])).status_code == 404


@pytest.mark.parametrize(("state", "needed"), [(JobState.INTERRUPTED, True), (JobState.SUCCEEDED, False)])
def test_the_base_of_a_running_incremental_stays(people, point, state, needed):
    JobFactory(vm=point.vm, state=state, resume_state={"base_point": str(point.uuid)})
    if needed:
        with pytest.raises(PointInUse, match="continues from it"):
            delete(people.alice, point)
    else:
        delete(people.alice, point)
    assert (point.deleted_at is None) == needed
