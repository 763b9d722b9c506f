# SPDX-License-Identifier: GPL-3.0-or-later
import hashlib
import shutil
from pathlib import Path

import pytest

from backups import services
from backups.importing import import_repository
from backups.methods import verify, verify_repository
from backups.store.errors import PointCorrupt, RepositoryMissing
from backups.store.marks import MarksFile
from backups.store.verify import verify_point as verify_store_point
from portal.jobs import runner
from portal.jobs.states import JobState
from tests.backups.support import publish
from tests.factories import VmFactory

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]


def verified(people, point):
    job = services.verify_restore_point(actor=people.bob, point=point)
    runner.execute(job.pk, verify.run)
    job.refresh_from_db()
    point.refresh_from_db()
    return job


def test_a_whole_point_is_found_whole(people, point):
    job = verified(people, point)
    assert job.state == JobState.SUCCEEDED
    assert (point.verify_problem, point.verified_at is not None) == ("", True)


def damage_a_chunk(repository):
    chunk = next((repository.open().path / "chunks").glob("*/*.cacnk"))
    chunk.chmod(0o600)
    raw = bytearray(chunk.read_bytes())
    raw[-1] ^= 1
    chunk.write_bytes(raw)


def test_a_damaged_chunk_fails_the_job_and_stands_on_the_point(people, point):
    damage_a_chunk(point.repository)
    job = verified(people, point)
    assert (job.state, job.error_code) == (JobState.FAILED, "point_damaged")
    assert "1 of 4 chunks" in job.error_message
    assert "damaged" in point.verify_problem


def test_points_of_other_machines_that_are_hurt_too_do_not_name_this_one(people, point):
    stranger = VmFactory(name="of-another-team")
    other = services.record_point(point.repository, stranger, publish(point.repository, stranger), None)
    damage_a_chunk(point.repository)
    verified(people, point)
    other.refresh_from_db()
    assert "shares damaged chunks" in other.verify_problem
    assert point.vm_name not in other.verify_problem


def test_a_file_that_is_gone_stands_on_the_point(people, point):
    (point.open().folder / "vm.ovf").unlink()
    job = verified(people, point)
    assert (job.state, job.error_code) == (JobState.FAILED, "point_corrupt")
    assert "vm.ovf" in point.verify_problem and "is missing" in point.verify_problem


def test_storage_that_fails_is_not_damage(people, point, monkeypatch, settings):
    settings.JOB_MAX_ATTEMPTS = 1

    def away(*_, **__):
        raise RepositoryMissing("There is no repository.")

    monkeypatch.setattr(verify, "verify_point", away)
    job = verified(people, point)
    assert (job.state, job.error_code) == (JobState.FAILED, "repository_missing")
    assert (point.verify_problem, point.verified_at) == ("", None)


def exchange_the_files(point):
    """What nothing in the repository can tell: a whole, consistent point in the place of another."""
    other = publish(point.repository, point.vm, reason="Full, says somebody else.")
    store = point.repository.open()
    folder = store.folder_of(point.ref)
    shutil.rmtree(folder)
    other.folder.rename(folder)
    theirs = other.folder.name
    manifest = folder / "manifest.json"
    text = manifest.read_text().replace(theirs, folder.name)
    manifest.write_text(text)
    (folder / "marks.jsonl").unlink()
    with MarksFile(folder) as marks:
        digest = hashlib.sha256(text.encode()).hexdigest()
        marks.append("published", point=folder.name, manifest_sha256=digest)
    assert verify_store_point(store.open_ref(point.ref)).good


def test_files_that_were_exchanged_all_together_are_found_by_the_row(people, point):
    exchange_the_files(point)
    with pytest.raises(PointCorrupt, match="not the one that was published"):
        point.open()
    job = verified(people, point)
    assert (job.state, job.error_code) == (JobState.FAILED, "point_corrupt")
    assert "not the one that was published" in point.verify_problem


def test_exchanged_files_are_found_when_the_whole_repository_is_verified(people, point):
    exchange_the_files(point)
    job = services.verify_repository(actor=people.root, repository=point.repository)
    runner.execute(job.pk, verify_repository.run)
    job.refresh_from_db()
    point.refresh_from_db()
    assert (job.state, job.error_code, job.result["points_hurt"]) == (
        JobState.FAILED,
        "repository_damaged",
        1,
    )
    assert "not the one that was published" in point.verify_problem


def test_exchanged_files_are_not_taken_over_by_an_import(people, point):
    exchange_the_files(point)
    import_repository(path=Path(point.repository.path))
    before = point.manifest_sha256
    point.refresh_from_db()
    assert point.manifest_sha256 == before
    assert "not the one that was published" in point.verify_problem
