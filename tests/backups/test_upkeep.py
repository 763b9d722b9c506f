# SPDX-License-Identifier: GPL-3.0-or-later
import datetime as dt

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from backups import services, upkeep
from backups.methods import collect, verify_repository
from backups.models import Repository, RepositoryMeasurement, RestorePoint
from portal.audit.models import AuditEntry
from portal.errors import NotAllowed
from portal.jobs import runner
from portal.jobs.models import Job
from portal.jobs.states import JobState
from tests.backups.support import publish
from tests.factories import JobFactory, PointFactory, RepositoryFactory
from tests.store.support import chunk_files, make_old

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]
DAY = 86400


def collected(people, repository):
    job = services.start_collection(actor=people.root, repository=repository)
    runner.execute(job.pk, collect.run)
    job.refresh_from_db()
    repository.refresh_from_db()
    return job


def verified(people, repository):
    job = services.verify_repository(actor=people.root, repository=repository)
    runner.execute(job.pk, verify_repository.run)
    job.refresh_from_db()
    repository.refresh_from_db()
    return job


def age_everything(repository, seconds=400 * DAY):
    for path in repository.open().path.rglob("*"):
        make_old(path, seconds)


def flip(path):
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.chmod(0o600)
    path.write_bytes(raw)


def test_a_collection_empties_the_trash_and_frees_its_chunks(people, point, repository):
    store = repository.open()
    services.delete_restore_point(actor=people.alice, point=point, reason="old")
    abandoned = store.stage_point(
        point.vm.environment.uuid,
        point.vm.manager_id,
        "0" * 8 + "-" + "-".join(["0" * 4] * 3) + "-" + "0" * 12,
    )
    abandoned.write_text("vm.ovf", b"<Envelope/>")
    age_everything(repository)
    job = collected(people, repository)
    assert job.state == JobState.SUCCEEDED, job.error_message
    assert (repository.collected_chunks, repository.collect_problem) == (4, "")
    assert repository.collected_bytes == job.result["bytes_freed"] > 0
    assert chunk_files(store) == [] and not abandoned.folder.exists()
    point.refresh_from_db()
    assert point.purged_at is not None
    assert [step.state for step in job.steps.all()] == ["succeeded", "succeeded"]
    assert repository.measurements.get().chunks == 0


def test_a_job_under_way_keeps_its_unfinished_point(people, vm, point, repository):
    store = repository.open()
    unfinished = "12345678-1234-4234-8234-123456789012"
    store.stage_point(vm.environment.uuid, vm.manager_id, unfinished).write_text("vm.ovf", b"<Envelope/>")
    job = JobFactory(vm=vm, resume_state={"point": unfinished, "base_point": str(point.uuid)})
    services_point = RestorePoint.objects.get()
    store.trash_point(services_point.ref, reason="by another portal", by="x")
    age_everything(repository)
    assert collected(people, repository).state == JobState.SUCCEEDED
    assert store.point_dir(vm.environment.uuid, vm.manager_id, unfinished).exists()
    assert len(chunk_files(store)) == 4
    Job.objects.filter(pk=job.pk).update(state=JobState.FAILED)
    assert collected(people, repository).state == JobState.SUCCEEDED
    assert not store.point_dir(vm.environment.uuid, vm.manager_id, unfinished).exists()
    assert chunk_files(store) == []


def test_one_collection_at_a_time(people, repository):
    first = services.start_collection(actor=people.root, repository=repository)
    assert services.start_collection(actor=None, repository=repository, via=Job.Via.SCHEDULE) == first
    other = services.create_repository(actor=None, name="other", path=first_path(repository))
    assert services.start_collection(actor=people.root, repository=other) != first


def first_path(repository):
    return repository.open().path.parent / "other"


def test_only_platform_admins_look_after_repositories(people, repository):
    for verb in (services.start_collection, services.verify_repository):
        with pytest.raises(NotAllowed):
            verb(actor=people.alice, repository=repository)
    assert not Job.objects.exists()


def test_a_collection_that_died_is_taken_over(people, repository):
    job = services.start_collection(actor=people.root, repository=repository)
    Job.objects.filter(pk=job.pk).update(resume_state={"lease": "abc"})
    (repository.open().path / "gc.lease").write_text('{"token": "abc"}')
    runner.execute(job.pk, collect.run)
    job.refresh_from_db()
    assert job.state == JobState.SUCCEEDED, job.error_message


def test_a_collection_beside_another_machines_tries_again_later(people, repository):
    (repository.open().path / "gc.lease").write_text('{"token": "somebody"}')
    job = collected(people, repository)
    assert (job.state, job.tries) == (JobState.PENDING, 1)
    assert (repository.open().path / "gc.lease").exists()


def test_a_damaged_index_is_told_on_the_repository(people, point, repository):
    flip(next(repository.open().path.glob("points/*/*/*/*.caibx")))
    job = collected(people, repository)
    assert job.state == JobState.FAILED
    assert repository.collect_problem == job.error_message != ""


def test_a_whole_repository_is_found_whole(people, vm, point, repository):
    other = services.record_point(repository, vm, publish(repository, vm), None)
    job = verified(people, repository)
    assert job.state == JobState.SUCCEEDED, job.error_message
    assert (repository.verified_chunks, repository.bad_chunks, repository.verify_problem) == (4, 0, "")
    for row in (point, other):
        row.refresh_from_db()
        assert row.verified_at and not row.verify_problem
        assert repository.open().open_ref(row.ref).standing().verified is not None


def test_damage_stands_on_the_repository_and_on_each_point(people, vm, point, repository):
    store = repository.open()
    fine = services.record_point(repository, vm, publish(repository, vm, disks=[one_disk()]), None)
    manifest = store.folder_of(fine.ref) / "manifest.json"
    stored = store.open_ref(point.ref)
    with stored.index(stored.manifest["disks"][1]["disk_id"]) as index:
        chunk_id = index.chunk_id(0)
        flip(store.chunks.path(chunk_id))
    job = verified(people, repository)
    assert (job.state, job.error_code) == (JobState.FAILED, "repository_damaged")
    assert repository.bad_chunks == 1 and "1 restore points are hurt" in repository.verify_problem
    point.refresh_from_db()
    fine.refresh_from_db()
    assert job.result["hurt"] == {chunk_id.hex(): [str(point.uuid)]}
    assert "1 chunks" in point.verify_problem and fine.verify_problem == ""
    assert store.open_ref(point.ref).standing().damaged is not None
    manifest.write_bytes(manifest.read_bytes().replace(b'"web-01"', b'"web-02"'))
    verified(people, repository)
    fine.refresh_from_db()
    assert "manifest.json" in fine.verify_problem


def one_disk():
    from tests.backups.support import disk_of

    return disk_of("system", bootable=True)


def test_a_repository_that_is_away_is_not_called_damaged(people, point, repository, settings):
    settings.JOB_MAX_ATTEMPTS = 1
    path = repository.open().path
    path.rename(path.with_name("unmounted"))
    job = verified(people, repository)
    assert (job.state, job.error_code) == (JobState.FAILED, "repository_missing")
    assert (repository.verify_problem, repository.verified_at) == ("", None)


def test_a_verification_goes_on_where_it_stopped(people, point, repository, monkeypatch):
    job = services.verify_repository(actor=people.root, repository=repository)
    prefixes = list(repository.open().chunks.prefixes())
    Job.objects.filter(pk=job.pk).update(
        resume_state={"after": prefixes[1], "chunks": 2, "bytes": 7, "bad": 0}
    )
    runner.execute(job.pk, verify_repository.run)
    repository.refresh_from_db()
    assert repository.verified_chunks == 4


def test_lost_marks_are_noticed_by_comparing_them_with_the_rows(people, point, repository):
    services.hold_point(actor=people.alice, point=point, reason="case 4711")
    marks = repository.open().folder_of(point.ref) / "marks.jsonl"
    marks.write_bytes(b"".join(marks.read_bytes().splitlines(keepends=True)[:1]))
    job = verified(people, repository)
    assert job.state == JobState.SUCCEEDED
    assert any("legal hold" in warning for warning in job.warnings)


def test_reading_waits_when_it_would_be_too_fast(people, point, repository, settings, monkeypatch):
    settings.VERIFY_RATE = 1
    waits = []
    monkeypatch.setattr("portal.jobs.context.JobContext.pause", lambda self, seconds: waits.append(seconds))
    assert verified(people, repository).state == JobState.SUCCEEDED
    stored = sum(path.stat().st_size for path in chunk_files(repository.open()))
    assert 0 < max(waits) <= stored / (1 << 20)


def test_measuring_writes_down_what_is_there(people, point, repository):
    found = upkeep.measure(repository)
    repository.refresh_from_db()
    stored = sum(path.stat().st_size for path in chunk_files(repository.open()))
    assert (found.chunks, found.bytes_used, found.points) == (4, stored, 1)
    assert repository.free_bytes == found.bytes_free > 0 and repository.checked_at is not None
    Repository.objects.update(path="/nowhere")
    repository.refresh_from_db()
    assert upkeep.measure(repository) is None
    repository.refresh_from_db()
    assert "mounted" in repository.problem


def test_a_repository_is_measured_after_a_job_but_not_after_each(point, repository):
    job = JobFactory(state=JobState.SUCCEEDED, params={"repository": str(repository.uuid)})
    for _ in range(3):
        upkeep.measure_after(job.pk)
    assert repository.measurements.count() == 1
    upkeep.measure_after(JobFactory(state=JobState.SUCCEEDED).pk)
    assert RepositoryMeasurement.objects.count() == 1


def measurement(repository, age_days, used=0):
    return RepositoryMeasurement.objects.create(
        repository=repository,
        at=timezone.now() - dt.timedelta(days=age_days),
        bytes_used=used,
        bytes_free=1000,
        bytes_total=2000,
        points=1,
        chunks=1,
    )


def test_old_measurements_are_thinned():
    repository = RepositoryFactory()
    young = [measurement(repository, 1), measurement(repository, 1)]
    noon = timezone.now().replace(hour=12)
    old = [measurement(repository, 20) for _ in range(3)]
    for hour, row in enumerate(old):
        RepositoryMeasurement.objects.filter(pk=row.pk).update(
            at=noon - dt.timedelta(days=20, hours=3 - hour)
        )
    measurement(repository, 800)
    upkeep.thin_measurements(repository)
    assert set(repository.measurements.values_list("pk", flat=True)) == {row.pk for row in [*young, old[-1]]}


def test_facts_come_from_rows_in_constant_queries(people, vm):
    repository = RepositoryFactory()
    measurement(repository, 10, used=1000)
    measurement(repository, 0, used=2000)
    PointFactory(vm=vm, repository=repository, size_bytes=10, pinned_at=timezone.now())
    PointFactory(vm=vm, repository=repository, size_bytes=5, verify_problem="x", verified_at=timezone.now())
    PointFactory(vm=vm, repository=repository, deleted_at=timezone.now(), held_at=timezone.now())
    PointFactory(vm=vm, repository=repository, deleted_at=timezone.now(), purged_at=timezone.now())
    job = services.start_collection(actor=people.root, repository=repository)
    facts = services.repository_facts(repository)
    assert (facts.points, facts.points_in_trash, facts.points_pinned, facts.points_held) == (2, 1, 1, 1)
    assert (facts.points_damaged, facts.points_verified, facts.machines, facts.logical_bytes) == (1, 0, 1, 15)
    assert facts.growth_bytes_per_day == pytest.approx(100, rel=0.01)
    assert facts.days_left == pytest.approx(10, rel=0.01)
    assert facts.active_jobs == [job] and facts.latest.bytes_used == 2000
    with CaptureQueriesContext(
        connection,
    ) as before:
        services.repository_facts(repository)
    for number in range(20):
        PointFactory(repository=repository)
        measurement(repository, number)
        JobFactory(params={"repository": str(repository.uuid)})
    with CaptureQueriesContext(connection) as after:
        services.repository_facts(repository)
    assert len(after) == len(before) == 3


def test_facts_of_an_empty_repository():
    facts = services.repository_facts(RepositoryFactory())
    assert (facts.points, facts.logical_bytes, facts.latest, facts.growth_bytes_per_day) == (0, 0, None, None)


def test_beats_round_orders_what_is_due(repository, settings):
    upkeep.look_after_all()
    assert not Job.objects.exists() and repository.measurements.count() == 1
    long_ago = timezone.now() - dt.timedelta(days=40)
    Repository.objects.update(created_at=long_ago)
    upkeep.look_after_all()
    upkeep.look_after_all()
    assert sorted(Job.objects.values_list("kind", "via")) == [
        ("collect_garbage", "schedule"),
        ("repository_verify", "schedule"),
    ]
    assert AuditEntry.objects.filter(action="repository.collect", actor_name="portal").count() == 1


def test_the_command_collects_at_once(people, point, repository, capsys):
    from django.core.management import call_command

    services.delete_restore_point(actor=people.alice, point=point, reason="old")
    age_everything(repository)
    call_command("collect_garbage")
    assert "4 chunks removed" in capsys.readouterr().out
    assert chunk_files(repository.open()) == []
