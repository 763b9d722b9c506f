# SPDX-License-Identifier: GPL-3.0-or-later
"""Anchors in real repositories: written, compared, missed, and taken up with a repository of another portal."""

import datetime as dt
import shutil
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from backups import anchoring
from backups import services as backups
from backups.importing import import_repository
from backups.models import Repository
from backups.store.anchors import append_anchor, read_anchors
from backups.store.errors import StoreError
from portal.audit import guards, sealing, verifying
from portal.audit import services as audit
from portal.audit.models import AuditAnchor, AuditEntry, AuditSeal, AuditVerification

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]


def anchors_file(repository: Repository) -> Path:
    return Path(repository.path) / "audit" / "anchors.jsonl"


def entries(count: int) -> None:
    for number in range(count):
        audit.record("x", actor=None, number=number)
    sealing.seal_all()


def cut_tail(from_sequence: int) -> None:
    """Entries, their seals and all, as somebody would who owns the tables."""
    lost = list(AuditSeal.objects.filter(sequence__gte=from_sequence).values_list("entry_id", flat=True))
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        guards.take_down(connection)
        cursor.execute(f"DELETE FROM audit_auditseal WHERE sequence >= {from_sequence}")
        cursor.execute(f"DELETE FROM audit_auditentry WHERE id IN ({','.join(map(str, lost))})")
        guards.put_up(connection)


def test_the_head_is_written_into_the_repository_and_agrees_later(repository):
    entries(3)
    noted = anchoring.write_anchor(repository)
    head = verifying.head()
    (line,) = read_anchors(repository.open())
    assert (line["sequence"], line["hash"], line["chain"]) == (head.sequence, head.hash, head.chain)
    assert (noted.sequence, noted.hash, noted.place) == (head.sequence, head.hash, str(repository.uuid))
    entries(2)
    verdict = anchoring.verify_history()
    assert (verdict.ok, verdict.anchors, verdict.entries) == (True, 1, head.sequence + 2)


def test_a_cut_tail_is_named_by_the_command(repository):
    entries(5)
    anchoring.write_anchor(repository)
    last = verifying.head().sequence
    cut_tail(last - 1)
    with pytest.raises(
        CommandError, match=f"Entries {last - 1} to {last} are missing: repository Test repository"
    ):
        call_command("verify_audit")
    assert AuditVerification.objects.first().problem


def test_a_cut_tail_that_grew_again_is_found_too(repository):
    entries(5)
    anchoring.write_anchor(repository)
    last = verifying.head().sequence
    cut_tail(last - 1)
    entries(4)
    problem = anchoring.verify_history().problem
    assert problem.code == "rewritten"


def test_a_restored_database_is_accepted_with_a_reason_and_still_told(repository):
    entries(5)
    anchoring.write_anchor(repository)
    cut_tail(verifying.head().sequence)
    out, err = StringIO(), StringIO()
    call_command("verify_audit", accept_anchors="restored from the dump of Monday", stdout=out, stderr=err)
    assert "Accepted: link" in out.getvalue()
    assert "was accepted with a reason" in err.getvalue()
    said = AuditEntry.objects.get(action=verifying.ACCEPTED)
    assert said.data["reason"] == "restored from the dump of Monday"


def test_an_anchor_that_vanished_from_the_repository_is_missed(repository):
    entries(2)
    anchoring.write_anchor(repository)
    anchors_file(repository).unlink()
    problem = anchoring.verify_history().problem
    assert problem.code == "missing_anchor"
    assert "repository Test repository, is not there any more" in problem.text


def test_an_anchor_that_was_changed_counts_as_gone(repository):
    entries(2)
    anchoring.write_anchor(repository)
    file = anchors_file(repository)
    file.write_text(file.read_text().replace('"sequence": ', '"sequence": 1'))
    assert read_anchors(repository.open()) == (None,)
    assert anchoring.verify_history().problem.code == "missing_anchor"


def test_a_line_that_a_crash_cut_short_is_noted_and_the_next_one_counts(repository):
    entries(2)
    anchors_file(repository).parent.mkdir()
    anchors_file(repository).write_text('{"sum": "0123')
    anchoring.write_anchor(repository)
    torn, line = read_anchors(repository.open())
    assert torn is None
    assert line["sequence"] == verifying.head().sequence
    verdict = anchoring.verify_history()
    assert verdict.ok
    assert "1 lines of the anchors in repository Test repository are damaged." in verdict.notes


def test_a_repository_that_is_away_is_noted_and_anchored_later(repository, tmp_path):
    entries(1)
    away = tmp_path / "away"
    Path(repository.path).rename(away)
    assert anchoring.write_anchor(repository) is None
    verdict = anchoring.verify_history()
    assert verdict.ok
    assert "cannot be read" in verdict.notes[0]
    away.rename(repository.path)
    anchoring.look_after()
    assert AuditAnchor.objects.count() == 1


def test_the_daily_round_anchors_each_repository_once_and_verifies(repository, tmp_path, monkeypatch):
    backups.create_repository(actor=None, name="Second", path=tmp_path / "second")
    anchoring.look_after()
    anchoring.look_after()
    assert AuditAnchor.objects.count() == 2
    assert AuditVerification.objects.count() == 1
    tomorrow = timezone.now() + dt.timedelta(days=1)
    monkeypatch.setattr(timezone, "now", lambda: tomorrow)
    anchoring.look_after()
    assert AuditAnchor.objects.count() == 4
    assert AuditVerification.objects.count() == 2
    assert AuditVerification.objects.first().problem == ""


def test_a_repository_of_a_portal_that_is_lost_is_taken_up_and_anchored_anew(repository, tmp_path):
    """The old chain's anchors stay where they are; the new chain says that it knows of them."""
    append_anchor(repository.open(), chain="a" * 64, sequence=40, hash="b" * 64)
    copy = tmp_path / "taken-up"
    shutil.copytree(repository.path, copy)
    shutil.rmtree(repository.path)
    import_repository(path=copy)
    lines = read_anchors(Repository.objects.get().open())
    assert [line["chain"] for line in lines] == ["a" * 64, verifying.head().chain]
    said = AuditEntry.objects.get(action=verifying.ACCEPTED)
    assert (said.data["chain"], said.data["last"], said.data["last_hash"]) == ("a" * 64, 40, "b" * 64)
    sealing.seal_all()
    verdict = anchoring.verify_history()
    assert verdict.ok
    assert "accepted with a reason" in verdict.notes[0]
    import_repository(path=copy)
    assert anchoring.verify_history().ok


def test_nothing_is_written_through_a_link(repository, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (Path(repository.path) / "audit").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="link to somewhere else"):
        append_anchor(repository.open(), chain="a" * 64, sequence=1, hash="b" * 64)
    assert list((tmp_path / "elsewhere").iterdir()) == []
