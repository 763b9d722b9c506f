# SPDX-License-Identifier: GPL-3.0-or-later
"""The chain of seals: what it is made of, and that every change to what is behind it is found and named."""

import datetime as dt
import hashlib
import json
import uuid
from contextlib import contextmanager
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from portal.audit import canonical, guards, sealing, verifying
from portal.audit import services as audit
from portal.audit.entries import GENESIS, entry_digest, link_hash
from portal.audit.models import AuditAnchor, AuditEntry, AuditSeal, AuditUnsealed, AuditVerification
from portal.audit.verifying import Anchor
from tests.factories import TeamFactory, UserFactory, VmFactory

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]


@contextmanager
def guards_down():
    """As somebody who owns the database would work."""
    _settle()
    guards.take_down(connection)
    yield
    _settle()
    guards.put_up(connection)


def _settle():
    """PostgreSQL alters no table of which checks are still to come in this transaction."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")


def tamper(*statements: str) -> None:
    with guards_down(), connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def written(count: int = 5) -> list[AuditEntry]:
    alice, vm = UserFactory(username="alice"), VmFactory(name="web-01")
    vm.teams.add(TeamFactory())
    made = [
        audit.record("backup.start", actor=alice, subject=vm, ticket=f"CHG-{number}", number=number)
        for number in range(1, count + 1)
    ]
    sealing.seal_all()
    return made


def anchor(sequence: int, at: str = "2026-11-23T00:00:00.000000Z") -> Anchor:
    seal = AuditSeal.objects.get(sequence=sequence)
    first = AuditSeal.objects.get(sequence=1)
    return Anchor(sequence=sequence, hash=seal.hash, chain=first.hash, at=at, place="repository Vault")


def test_every_entry_becomes_the_next_link():
    entries = written()
    assert AuditUnsealed.objects.count() == 0
    previous = GENESIS
    for sequence, entry in enumerate(entries, start=1):
        entry.refresh_from_db()
        assert entry.seal.sequence == sequence
        assert entry.seal.digest == entry_digest(entry)
        assert entry.seal.previous == previous
        assert entry.seal.hash == link_hash(sequence, entry.seal.digest, previous)
        previous = entry.seal.hash
    verdict = verifying.verify([anchor(3), anchor(5)])
    assert (verdict.ok, verdict.entries, verdict.head, verdict.anchors) == (True, 5, previous, 2)
    assert verdict.notes == []


def test_the_hash_is_what_the_documentation_says():
    """Computed by hand, so that no change of the code changes the format unseen."""
    link = '{"digest":"' + "a" * 64 + '","previous":"' + GENESIS + '","sequence":1,"version":1}'
    assert link_hash(1, "a" * 64, GENESIS) == hashlib.sha256(link.encode()).hexdigest()
    at = dt.datetime(2026, 11, 23, 1, 2, 3, 40, tzinfo=dt.timezone(dt.timedelta(hours=1)))
    entry = AuditEntry(
        id=7,
        uuid=uuid.UUID(int=1),
        at=at,
        actor_id=3,
        actor_name="zoë",
        via="page",
        action="x",
        data={"b": [True, None, 1], "a": "é\n\u2028"},
    )
    text = (
        '{"action":"x","actor":3,"actor_name":"zoë","address":null,"at":"2026-11-23T00:02:03.000040Z",'
        '"data":{"a":"é\\n\u2028","b":[true,null,1]},"id":7,"object_id":"","object_label":"","object_type":"",'
        '"request_id":"","teams":[],"ticket":"","uuid":"00000000-0000-0000-0000-000000000001","version":1,'
        '"via":"page","vm":null}'
    )
    assert entry_digest(entry) == hashlib.sha256(text.encode()).hexdigest()


COLUMNS = {
    "uuid": "'6ba7b8109dad11d180b400c04fd430c8'",
    "at": "'2020-01-01 00:00:00+00:00'",
    "actor_id": "4711",
    "actor_name": "'mallory'",
    "via": "'schedule'",
    "action": "'point.delete'",
    "object_type": "'x'",
    "object_id": "'x'",
    "object_label": "'db-01'",
    "request_id": "'x'",
    "address": "'10.0.0.9'",
    "data": """'{"number": 99}'""",
    "version": "2",
    "vm": "'6ba7b8109dad11d180b400c04fd430c8'",
    "teams": "'[]'",
    "ticket": "'CHG-99'",
    "id": "4711000",
}


def test_the_list_of_columns_is_whole():
    assert set(COLUMNS) == {field.column for field in AuditEntry._meta.concrete_fields}


@pytest.mark.parametrize("column", COLUMNS)
def test_a_change_to_any_column_is_found_and_named(column):
    entries = written()
    if column == "id":
        _without_foreign_keys()
    tamper(f"UPDATE audit_auditentry SET {column} = {COLUMNS[column]} WHERE id = {entries[2].pk}")
    verdict = verifying.verify()
    assert verdict.problem is not None
    assert (verdict.entries, verdict.problem.sequence, verdict.problem.entry) == (2, 3, entries[2].pk)
    assert verdict.problem.code == ("missing_entry" if column == "id" else "changed_entry")


def _without_foreign_keys():
    """An attacker who owns the tables drops what is in the way."""
    if connection.vendor == "sqlite":
        pytest.skip("SQLite's foreign keys cannot be switched off in the transaction of a test")
    _settle()
    with connection.cursor() as cursor:
        for table in ("audit_auditseal", "audit_auditentryteam", "audit_auditunsealed"):
            of_table = "SELECT conname FROM pg_constraint WHERE contype = 'f' AND conrelid = %s::regclass"
            cursor.execute(of_table, [table])
            for (name,) in cursor.fetchall():
                cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")


SEAL_COLUMNS = {
    "sequence": "77",
    "digest": "'%s'" % ("0" * 64),
    "previous": "'x'",
    "hash": "'%s'" % ("0" * 64),
}


@pytest.mark.parametrize("column", SEAL_COLUMNS)
def test_a_change_to_any_column_of_a_seal_is_found(column):
    written()
    tamper(f"UPDATE audit_auditseal SET {column} = {SEAL_COLUMNS[column]} WHERE sequence = 3")
    problem = verifying.verify().problem
    assert problem is not None
    assert problem.sequence == 3


def test_two_entries_that_changed_places_are_found():
    first, second = written()[1:3]
    _without_foreign_keys()
    tamper(
        f"UPDATE audit_auditseal SET entry_id = -1 WHERE entry_id = {first.pk}",
        f"UPDATE audit_auditseal SET entry_id = {first.pk} WHERE entry_id = {second.pk}",
        f"UPDATE audit_auditseal SET entry_id = {second.pk} WHERE entry_id = -1",
    )
    problem = verifying.verify().problem
    assert problem is not None
    assert (problem.code, problem.sequence) == ("changed_entry", 2)


@pytest.mark.parametrize("sequence", [1, 3, 5], ids=["first", "middle", "last"])
@pytest.mark.parametrize("how", ["entry", "seal", "both"])
def test_a_deleted_entry_is_named(sequence, how):
    """Without its seal too, except at the end: there an anchor is needed."""
    entries = written()
    anchors = [anchor(5)]
    key = entries[sequence - 1].pk
    if how == "entry":
        _without_foreign_keys()
    statements = []
    if how != "entry":
        statements.append(f"DELETE FROM audit_auditseal WHERE sequence = {sequence}")
    if how != "seal":
        statements.append(f"DELETE FROM audit_auditentryteam WHERE entry_id = {key}")
        statements.append(f"DELETE FROM audit_auditentry WHERE id = {key}")
    tamper(*statements)
    problem = verifying.verify(anchors).problem
    assert problem is not None
    assert problem.sequence == sequence
    expected = {"entry": "missing_entry", "seal": "missing_seal", "both": "missing_seal"}[how]
    if sequence == 5 and how != "entry":
        expected = "tail_cut"
    assert problem.code == expected
    if how == "seal" and sequence != 5:
        assert problem.entry == key


def test_a_cut_tail_is_found_by_the_anchor_alone():
    entries = written()
    anchors = [anchor(2), anchor(5)]
    keys = ",".join(str(entry.pk) for entry in entries[3:])
    tamper(
        "DELETE FROM audit_auditseal WHERE sequence > 3",
        f"DELETE FROM audit_auditentryteam WHERE entry_id IN ({keys})",
        f"DELETE FROM audit_auditentry WHERE id IN ({keys})",
    )
    assert verifying.verify(anchors[:1]).ok
    problem = verifying.verify(anchors).problem
    assert problem is not None
    assert (problem.code, problem.sequence) == ("tail_cut", 4)
    assert "Entries 4 to 5 are missing" in problem.text
    assert "repository Vault" in problem.text


def test_a_chain_computed_anew_is_found_by_the_anchor_alone():
    entries = written()
    anchors = [anchor(2), anchor(5)]
    tamper(
        f"UPDATE audit_auditentry SET actor_name = 'mallory' WHERE id = {entries[3].pk}",
        "DELETE FROM audit_auditseal WHERE sequence > 3",
    )
    AuditUnsealed.objects.bulk_create([AuditUnsealed(entry_id=entry.pk) for entry in entries[3:]])
    sealing.seal_all()
    assert verifying.verify(anchors[:1]).ok
    problem = verifying.verify(anchors).problem
    assert problem is not None
    assert (problem.code, problem.sequence) == ("rewritten", 3)
    assert "One of the entries 3 to 5 was changed" in problem.text


def test_an_anchor_that_does_not_fit_may_be_accepted_with_a_reason():
    written()
    lost = Anchor(sequence=9, hash="b" * 64, chain="c" * 64, at="2026-11-20T00:00:00.000000Z", place="Vault")
    assert verifying.verify([lost]).problem.code == "tail_cut"
    audit.record(
        verifying.ACCEPTED, actor=None, chain=lost.chain, first=6, last=9, until="2026-11-21T00:00:00.000000Z"
    )
    sealing.seal_all()
    verdict = verifying.verify([lost])
    assert verdict.ok
    assert "accepted with a reason" in verdict.notes[0]
    later = Anchor(9, "b" * 64, lost.chain, "2026-11-22T00:00:00.000000Z", "Vault")
    assert not verifying.verify([later]).ok


def test_who_may_read_an_entry_cannot_be_changed():
    entries = written()
    tamper(f"DELETE FROM audit_auditentryteam WHERE entry_id = {entries[1].pk}")
    problem = verifying.verify().problem
    assert problem is not None
    assert (problem.code, problem.sequence) == ("changed_teams", 2)


def test_an_entry_that_the_portal_did_not_write_is_named():
    written()
    stranger = AuditEntry.objects.create(actor_name="mallory", via="page", action="login")
    problem = verifying.verify().problem
    assert problem is not None
    assert (problem.code, problem.entry) == ("unsealed_entry", stranger.pk)


def test_an_entry_that_vanished_before_its_seal_leaves_a_witness():
    entry = audit.record("x", actor=None)
    _without_foreign_keys()
    tamper(f"DELETE FROM audit_auditentry WHERE id = {entry.pk}")
    assert sealing.seal_all() == 0
    problem = verifying.verify().problem
    assert problem is not None
    assert (problem.code, problem.entry) == ("missing_entry", entry.pk)


def test_an_entry_with_what_the_portal_never_writes_is_not_sealed_but_named():
    entry = audit.record("x", actor=None)
    tamper(f"""UPDATE audit_auditentry SET data = '{{"share": 0.1}}' WHERE id = {entry.pk}""")
    whole = audit.record("y", actor=None)
    assert sealing.seal_all() == 1
    assert whole.seal.sequence == 1
    problem = verifying.verify().problem
    assert problem is not None
    assert (problem.code, problem.entry) == ("changed_entry", entry.pk)


def test_the_verifier_reads_in_batches(monkeypatch):
    written(7)
    monkeypatch.setattr(verifying, "BATCH", 3)
    assert verifying.verify().entries == 7


def test_a_clock_that_goes_back_changes_nothing(monkeypatch):
    written(2)
    moments = [dt.datetime(2020, 1, 1, tzinfo=dt.UTC), dt.datetime(2030, 1, 1, tzinfo=dt.UTC)]
    for moment in reversed(moments):
        monkeypatch.setattr("django.utils.timezone.now", lambda moment=moment: moment)
        audit.record("x", actor=None)
    monkeypatch.undo()
    sealing.seal_all()
    verdict = verifying.verify([anchor(4)])
    assert (verdict.ok, verdict.entries) == (True, 4)


HOSTILE = {
    "nul": "a\0b",
    "surrogates": "a\ud800b\udc80",
    "emoji": "\U0001f600 e\u0301 \u202e",
    "lines": '\r\n\u2028\u2029\x7f\x1f\\"',
    "key\0\ud800": {"deep": [1.5, float("nan"), float("inf"), 1 << 70, -0.0, b"\xff", {1, 2}, None, True]},
    "moment": dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC),
    "uuid": uuid.UUID(int=5),
    "\uffff": 1,
    "\U00010000": 2,
}


def test_whatever_is_handed_over_is_written_and_sealed():
    nested: list = []
    for _ in range(500):
        nested = [nested]
    entry = audit.record(
        "x\ud800"[:1],
        actor=None,
        ticket="T\0\udfff" * 100,
        hostile=HOSTILE,
        nested=nested,
        number=(1 << 53) - 1,
    )
    entry.refresh_from_db()
    assert entry.data["hostile"]["nul"] == "a\ufffdb"
    assert entry.data["hostile"]["surrogates"] == "a\ufffdb\ufffd"
    assert entry.data["hostile"]["emoji"] == HOSTILE["emoji"]
    assert entry.data["hostile"]["moment"] == "2026-01-01T12:00:00.000000Z"
    assert entry.data["hostile"]["key\ufffd\ufffd"]["deep"][:4] == ["1.5", "nan", "inf", str(1 << 70)]
    assert entry.data["number"] == (1 << 53) - 1
    assert sealing.seal_all() == 1
    assert verifying.verify().ok


def test_huge_data_is_bounded_and_known_by_its_digest():
    text = "é" * (1 << 20)
    entry = audit.record("x", actor=None, text=text)
    wanted = canonical.canonical({"text": text})
    entry.refresh_from_db()
    assert entry.data == {
        "left_out": "too large",
        "bytes": len(wanted),
        "sha256": hashlib.sha256(wanted).hexdigest(),
    }
    just = audit.record("x", actor=None, text="a" * (canonical.MAX_DATA_BYTES - 100))
    sealing.seal_all()
    assert verifying.verify().entries == 2
    assert len(json.dumps(just.data)) > canonical.MAX_DATA_BYTES - 100


@pytest.mark.parametrize("value", [1.0, float("nan"), b"x", (1,), {1: 2}, 1 << 53, "\ud800", object()])
def test_only_one_way_to_write_a_value(value):
    with pytest.raises(canonical.NotCanonical):
        canonical.canonical({"value": value})


@pytest.mark.parametrize("table", guards.TABLES)
@pytest.mark.parametrize("what", ["UPDATE {} SET id = id", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
def test_the_database_itself_refuses_changes(table, what):
    from django.db import DatabaseError

    if what.startswith("TRUNCATE") and connection.vendor == "sqlite":
        pytest.skip("SQLite has no TRUNCATE; DELETE without WHERE is the same there")
    written(1)
    statement = what.format(table)
    if table == "audit_auditseal":
        statement = statement.replace("id = id", "hash = hash")
    # SQLite's triggers are by row, so there has to be one.
    now = dt.datetime.now(dt.UTC)
    AuditVerification.objects.create(at=now, entries=0, anchors=0, seconds=0)
    AuditAnchor.objects.create(at=now, place="x", place_name="x", sequence=1, hash="x")
    _settle()
    with (
        pytest.raises(DatabaseError, match="only ever added to"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)
    assert AuditEntry.objects.count() == 1


@pytest.mark.postgres
def test_a_change_applied_by_replication_is_refused_too():
    from django.db import DatabaseError

    if connection.vendor != "postgresql":
        pytest.skip("PostgreSQL")
    written(1)
    with (
        pytest.raises(DatabaseError, match="only ever added to"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute("UPDATE audit_auditentry SET actor_name = 'mallory'")


def test_guards_that_are_down_are_said():
    written(1)
    assert guards.missing(connection) == []
    with guards_down():
        verdict = verifying.verify()
        assert verdict.ok
        assert "does not refuse changes" in verdict.notes[0]
    assert guards.missing(connection) == []


def test_the_command_says_that_all_is_well_and_remembers_it():
    audit.record("x", actor=None)
    out = StringIO()
    call_command("verify_audit", stdout=out)
    assert "1 entries are whole" in out.getvalue()
    kept = AuditVerification.objects.get()
    assert (kept.entries, kept.problem) == (1, "")


def test_the_command_names_the_first_bad_entry_and_fails():
    entries = written()
    tamper(
        f"UPDATE audit_auditentry SET actor_name = 'mallory' WHERE id IN ({entries[4].pk}, {entries[2].pk})"
    )
    with pytest.raises(
        CommandError, match=rf"Entry 3 \(id {entries[2].pk}\) was changed .* 2 entries before"
    ):
        call_command("verify_audit")
    assert "Entry 3" in AuditVerification.objects.get().problem
