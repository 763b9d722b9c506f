# SPDX-License-Identifier: GPL-3.0-or-later
import pytest

from backups import services
from backups.methods import verify
from portal.jobs import runner
from portal.jobs.states import JobState

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


def test_a_damaged_chunk_fails_the_job_and_stands_on_the_point(people, point):
    chunk = next((point.repository.open().path / "chunks").glob("*/*.cacnk"))
    chunk.chmod(0o600)
    raw = bytearray(chunk.read_bytes())
    raw[-1] ^= 1
    chunk.write_bytes(raw)
    job = verified(people, point)
    assert (job.state, job.error_code) == (JobState.FAILED, "point_damaged")
    assert "1 of 4 chunks" in job.error_message
    assert "damaged" in point.verify_problem
