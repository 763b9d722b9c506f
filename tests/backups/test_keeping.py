# SPDX-License-Identifier: GPL-3.0-or-later
from pathlib import Path

import pytest

from backups import keeping, services
from backups.errors import PointHeld, PointInUse, PointPinned, PointPurged, ReasonNeeded
from backups.models import Repository, RestorePoint
from backups.store.errors import RepositoryMissing
from backups.store.repository import Repository as Store
from portal.audit.models import AuditEntry
from portal.errors import NotAllowed
from portal.jobs.models import Job
from tests.factories import JobFactory
from tests.store.support import make_old

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]
YEAR = 365 * 24 * 3600


def delete(actor, point, via=Job.Via.PAGE):
    services.delete_restore_point(actor=actor, point=point, reason="old", via=via)
    point.refresh_from_db()


def purge(point, days=400):
    folder = point.repository.open().folder_of(point.ref)
    if folder.exists():
        make_old(folder / "marks.jsonl", days * 86400)
    return keeping.purge_trash(repository=point.repository)


def standing_of(point):
    return point.repository.open().open_ref(point.ref).standing()


def test_a_pin_keeps_a_point_from_rules_but_not_from_people(people, point):
    services.pin_point(actor=people.bob, point=point, reason="before the upgrade")
    assert (point.pinned_by, point.pinned_why) == ("bob", "before the upgrade")
    assert standing_of(point).pinned["reason"] == "before the upgrade"
    assert not RestorePoint.objects.expirable().exists()
    with pytest.raises(PointPinned):
        delete(people.root, point, via=Job.Via.SCHEDULE)
    services.unpin_point(actor=people.bob, point=point)
    assert point.pinned_at is None and standing_of(point).pinned is None
    assert RestorePoint.objects.expirable().get() == point
    services.pin_point(actor=people.bob, point=point)
    delete(people.alice, point)
    assert point.deleted_at is not None
    assert list(AuditEntry.objects.order_by("pk").values_list("action", flat=True))[-4:] == [
        "point.pin",
        "point.unpin",
        "point.pin",
        "point.delete",
    ]


def test_a_hold_keeps_a_point_from_everything(people, point):
    services.hold_point(actor=people.alice, point=point, reason="case 4711")
    for via in (Job.Via.PAGE, Job.Via.SCHEDULE):
        with pytest.raises(PointHeld, match="case 4711"):
            delete(people.root, point, via=via)
    services.release_hold(actor=people.alice, point=point, reason="closed")
    delete(people.alice, point)
    services.hold_point(actor=people.alice, point=point, reason="reopened")
    assert purge(point) == 0
    services.release_hold(actor=people.alice, point=point, reason="closed")
    assert purge(point) == 1
    point.refresh_from_db()
    assert point.purged_at is not None and RestorePoint.objects.count() == 1
    assert AuditEntry.objects.filter(action="point.purge").count() == 1
    assert purge(point) == 0
    for verb in (services.hold_point, services.pin_point, services.undelete_point):
        with pytest.raises(PointPurged):
            verb(actor=people.alice, point=point, reason="too late")


def test_the_files_refuse_even_if_the_row_has_forgotten(people, point):
    services.hold_point(actor=people.alice, point=point, reason="case 4711")
    RestorePoint.objects.update(held_at=None)
    point.refresh_from_db()
    with pytest.raises(Exception, match="case 4711"):
        delete(people.alice, point)
    assert point.deleted_at is None and standing_of(point).held


@pytest.mark.parametrize(
    ("name", "may_pin", "may_hold"),
    [("alice", True, True), ("bob", True, False), ("carol", False, False), ("dave", False, False)],
)
def test_operators_pin_and_admins_hold(people, point, name, may_pin, may_hold):
    actor = getattr(people, name)
    for verbs, allowed in (
        ((services.pin_point, services.unpin_point), may_pin),
        ((services.hold_point, services.release_hold), may_hold),
    ):
        for verb in verbs:
            if allowed:
                verb(actor=actor, point=point, reason="x")
            else:
                with pytest.raises(NotAllowed):
                    verb(actor=actor, point=point, reason="x")
    assert point.pinned_at is None and point.held_at is None


def test_a_hold_needs_a_reason(people, point):
    with pytest.raises(ReasonNeeded):
        services.hold_point(actor=people.alice, point=point, reason=" ")
    assert standing_of(point).held is None


def test_undelete_brings_a_point_back(people, point):
    delete(people.alice, point)
    with pytest.raises(NotAllowed):
        services.undelete_point(actor=people.bob, point=point)
    services.undelete_point(actor=people.alice, point=point, reason="a mistake")
    assert (point.deleted_at, point.deleted_by, point.deleted_why) == (None, "", "")
    assert RestorePoint.objects.kept().get() == point
    assert standing_of(point).trashed is None
    assert AuditEntry.objects.get(action="point.undelete").data["reason"] == "a mistake"
    services.undelete_point(actor=people.alice, point=point)
    assert AuditEntry.objects.filter(action="point.undelete").count() == 1


def test_a_crash_between_the_way_back_and_the_row_is_mended_by_doing_it_again(people, point):
    delete(people.alice, point)
    point.repository.open().undelete_point(point.ref, by="alice")
    services.undelete_point(actor=people.alice, point=point)
    assert point.deleted_at is None


def test_the_grace_period_is_the_repositorys_own(people, point):
    delete(people.alice, point)
    Repository.objects.update(trash_days=30)
    point.repository.refresh_from_db()
    assert purge(point, days=29) == 0
    assert purge(point, days=31) == 1


def test_a_purge_that_died_before_the_row_is_told_by_the_next(people, point):
    delete(people.alice, point)
    folder = point.repository.open().folder_of(point.ref)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    assert keeping.purge_trash(repository=point.repository) == 1


def test_the_base_of_a_running_incremental_is_not_deleted(people, point):
    JobFactory(vm=point.vm, resume_state={"base_point": str(point.uuid)})
    with pytest.raises(PointInUse):
        delete(people.alice, point)
    assert point.deleted_at is None


def test_a_held_point_that_lost_its_manifest_in_the_trash_stays(people, point):
    delete(people.alice, point)
    services.hold_point(actor=people.alice, point=point, reason="case 4711")
    folder = point.repository.open().folder_of(point.ref)
    (folder / "manifest.json").unlink()
    assert purge(point) == 0
    assert list(folder.glob("*.caibx"))
    point.refresh_from_db()
    assert point.purged_at is None


def test_a_share_that_goes_away_while_the_trash_is_emptied_purges_no_row(people, point, monkeypatch):
    delete(people.alice, point)
    path = Path(point.repository.path)

    def unmounted(store, **_):
        path.rename(path.with_name("unmounted"))
        path.mkdir()
        return []

    monkeypatch.setattr(Store, "purge_trash", unmounted)
    with pytest.raises(RepositoryMissing):
        keeping.purge_trash(repository=point.repository)
    point.refresh_from_db()
    assert point.purged_at is None
