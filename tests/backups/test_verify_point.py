# SPDX-License-Identifier: GPL-3.0-or-later
import pytest

from backups import services
from backups.methods import verify
from backups.store.errors import RepositoryMissing
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
