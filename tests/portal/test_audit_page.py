# SPDX-License-Identifier: GPL-3.0-or-later
"""The audit history as a page and as a file: who reads what, filters, paging, exports and their verification."""

import ast
import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from portal.audit import exported, sealing, verifying
from portal.audit import services as audit
from portal.audit.models import AuditAnchor, AuditEntry, AuditSeal, AuditVerification
from portal.audit.verifying import Anchor
from portal.jobs.models import Job
from portal.trail import presenters
from tests.factories import EnvironmentFactory, MembershipFactory, TeamFactory, UserFactory, VmFactory

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]


@pytest.fixture
def reader(people):
    """Of the team of alice, bob and carol, and nothing but an auditor."""
    return MembershipFactory(team=people.team, user=UserFactory(username="erin"), role="auditor").user


@pytest.fixture
def history(people):
    """One entry of each kind; by name."""
    ours, theirs = VmFactory(name="web-01"), VmFactory(name="db-09")
    ours.teams.add(people.team)
    theirs.teams.add(TeamFactory(name="Third"))
    made = {
        "ours": audit.record("backup.start", actor=people.bob, subject=ours, ticket="CHG-1"),
        "theirs": audit.record("backup.start", actor=people.root, subject=theirs, ticket="CHG-2"),
        "bob": audit.record("login", actor=people.bob),
        "dave": audit.record("login", actor=people.dave),
        "manager": audit.record(
            "environment.change",
            actor=people.root,
            subject=EnvironmentFactory(),
            before={"legacy_backups": False, "name": "same"},
            after={"legacy_backups": True, "name": "same"},
        ),
        "hostile": audit.record("x", actor=None, subject=VmFactory(name="=HYPERLINK(1)"), via="schedule"),
    }
    sealing.seal_all()
    return made


def client_of(person) -> Client:
    client = Client()
    client.force_login(person)
    return client


def seen(person, query: str = "") -> set[str]:
    """uuids of the entries on the page."""
    answer = client_of(person).get(f"/audit/{query}")
    assert answer.status_code == 200
    return {row["href"].rstrip("/") for row in answer.context["rows"]}


def of(history, *names: str) -> set[str]:
    return {str(history[name].uuid) for name in names}


def test_an_auditor_reads_what_is_about_the_teams_machines_and_people(history, reader, people):
    assert seen(reader) == of(history, "ours", "bob")
    assert seen(people.alice) == of(history, "ours", "bob")
    assert seen(people.dave) == of(history, "dave")
    assert of(history, *history) <= seen(people.root)


@pytest.mark.parametrize("name", ["bob", "carol"])
def test_operators_and_viewers_read_nothing(history, people, name):
    client = client_of(getattr(people, name))
    assert client.get("/audit/").status_code == 403
    assert client.get("/audit/export.csv").status_code == 403
    assert client.get(f"/audit/{history['ours'].uuid}/").status_code == 403


def test_an_auditor_of_one_machine_reads_what_is_about_it(history):
    guest, vm = UserFactory(), VmFactory._meta.model.objects.get(name="web-01")
    vm.grants.create(user=guest, role="auditor")
    assert seen(guest) == of(history, "ours")


def test_what_was_recorded_stays_with_the_team_that_the_machine_was_in(history, reader):
    VmFactory._meta.model.objects.get(name="web-01").teams.clear()
    assert seen(reader) == of(history, "ours", "bob")


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("?who=dave", ["dave"]),
        ("?action=backup.", ["ours", "theirs"]),
        ("?object=WEB-0", ["ours"]),
        ("?ticket=CHG-2", ["theirs"]),
        ("?via=schedule", ["hostile"]),
        ("?since=2099-01-01", []),
        ("?until=2001-01-01", []),
        ("?since=2001-01-01&until=2099-01-01&who=bob&ticket=CHG-1", ["ours"]),
    ],
)
def test_filters_stand_in_the_address(history, people, query, names):
    assert seen(people.root, query) == of(history, *names)


def test_an_object_is_found_by_its_id_and_a_machine_by_all_that_is_about_it(history, people):
    vm = VmFactory._meta.model.objects.get(name="web-01")
    assert seen(people.root, f"?object={vm.uuid}") == of(history, "ours")


@pytest.mark.parametrize(
    "query", ["?since=tomorrow&until=9999-12-31", "?cursor=x", "?since=0001-01-01", "?who=%F0"]
)
def test_nonsense_in_the_address_counts_as_nothing_or_finds_nothing(history, people, query):
    assert client_of(people.root).get(f"/audit/{query}").status_code == 200


def test_an_entry_shows_what_was_changed_and_its_seal(history, people, reader):
    page = client_of(people.root).get(f"/audit/{history['manager'].uuid}/")
    assert [(change.name, change.before, change.after) for change in page.context["changes"]] == [
        ("legacy backups", "false", "true")
    ]
    assert history["manager"].seal.hash in page.content.decode()
    assert client_of(reader).get(f"/audit/{history['theirs'].uuid}/").status_code == 404


def test_a_value_is_text_on_the_page(people):
    entry = audit.record(
        "x", actor=None, subject=VmFactory(name="<script>1</script>"), before="<b>", after="<i>"
    )
    page = client_of(people.root).get(f"/audit/{entry.uuid}/").content.decode()
    assert "&lt;script&gt;" in page
    assert "<script>1" not in page
    assert "<i>" not in page


def test_the_page_asks_as_often_for_many_entries_as_for_few(history, people, reader):
    counts = []
    for _ in range(2):
        for person in (people.root, reader):
            client = client_of(person)
            client.get("/audit/")
            with CaptureQueriesContext(
                connection,
            ) as queries:
                client.get("/audit/?via=page")
            counts.append(len(queries))
        for _ in range(60):
            audit.record("login", actor=people.bob)
        sealing.seal_all()
    assert counts[:2] == counts[2:]


def test_pages_lead_on_without_losing_or_repeating_an_entry(people):
    for _ in range(120):
        audit.record("login", actor=people.root)
    client, address, found = client_of(people.root), "?action=login", []
    while address:
        page = client.get(f"/audit/{address}").context
        found += [row["href"] for row in page["rows"]]
        address = page["page"].older_url
    assert len(found) == len(set(found)) == 120
    assert page["page"].shown == "20 of 120 entries"


def test_the_state_of_the_chain_is_told(history, people, reader):
    assert "has not been verified yet" in client_of(reader).get("/audit/").content.decode()
    now, head = timezone.now(), verifying.head()
    AuditVerification.objects.create(at=now, entries=6, hash=head.hash, anchors=1, seconds=0.2)
    AuditAnchor.objects.create(at=now, place="p", place_name="Vault", sequence=head.sequence, hash=head.hash)
    page = client_of(people.root).get("/audit/").content.decode()
    assert "Nothing was changed or removed" in page
    assert "Vault: link 6" in page
    assert head.hash in page
    assert "Vault" not in client_of(reader).get("/audit/").content.decode()
    AuditVerification.objects.create(
        at=now, entries=2, anchors=1, seconds=0.2, problem="Entry 3 was changed."
    )
    assert "Entry 3 was changed." in client_of(people.root).get("/audit/").content.decode()
    assert "Not whole" in client_of(reader).get("/audit/").content.decode()
    assert "Entry 3 was changed." not in client_of(reader).get("/audit/").content.decode()


def test_verifying_is_ordered_by_platform_admins_only(history, people, reader, rings):
    assert client_of(reader).post("/audit/verify/").status_code == 403
    assert client_of(people.root).post("/audit/verify/").status_code == 302
    assert client_of(people.root).post("/audit/verify/").status_code == 302
    assert Job.objects.get(kind="audit_verify").title == "Verify the audit history"
    assert AuditEntry.objects.filter(action="audit.verify").count() == 1


# --- files ------------------------------------------------------------------------------------------------


def download(person, address: str) -> bytes:
    answer = client_of(person).get(address)
    assert answer.status_code == 200
    assert answer["Content-Disposition"].startswith("attachment")
    return b"".join(answer.streaming_content)


def test_csv_runs_no_formula_and_has_all_of_it(history, people):
    text = download(people.root, "/audit/export.csv").decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["uuid"] for row in rows] == [str(entry.uuid) for entry in history.values()]
    assert rows[5]["object_label"] == "'=HYPERLINK(1)"
    assert [row["hash"] for row in rows] == list(
        AuditSeal.objects.filter(sequence__lte=6).values_list("hash", flat=True)
    )


def test_an_export_is_itself_recorded_before_its_first_byte(history, reader):
    download(reader, "/audit/export.jsonl?action=backup.&ticket=CHG-1")
    entry = AuditEntry.objects.first()
    assert (entry.action, entry.actor_name) == ("audit.export", "erin")
    assert entry.data["filters"] == {"action": "backup.", "ticket": "CHG-1"}
    assert entry.data["head"]["sequence"] == 6


def verified(data: bytes, anchors=()):
    return exported.verify_export(io.BytesIO(data), anchors)


def anchor(sequence: int, hash: str = "") -> Anchor:
    found = AuditSeal.objects.get(sequence=sequence).hash
    chain = AuditSeal.objects.get(sequence=1).hash
    return Anchor(sequence, hash or found, chain, "2026-11-23T00:00:00+00:00", "Vault")


def test_an_export_is_verified_without_the_portal(history, people):
    data = download(people.root, "/audit/export.jsonl")
    verdict = verified(data, [anchor(3), anchor(6)])
    assert (verdict.problem, verdict.entries, verdict.anchors, verdict.notes) == (None, 6, 2, [])
    assert verdict.head == AuditSeal.objects.get(sequence=6).hash


def test_an_auditors_export_has_a_part_and_says_so(history, reader):
    data = download(reader, "/audit/export.jsonl")
    verdict = verified(data)
    assert (verdict.problem, verdict.entries) == (None, 2)
    assert "a part of the history" in verdict.notes[0]
    assert json.loads(data.splitlines()[0])["export"]["whole"] is False


def _swap(lines):
    lines[2], lines[3] = lines[3], lines[2]


def _change(lines):
    lines[3] = lines[3].replace(b'"actor_name":"bob"', b'"actor_name":"eve"')


def _rehash(lines):
    """The changed entry gets a right digest and hash; only the next link tells."""
    from portal.audit.canonical import digest
    from portal.audit.entries import link_hash

    item = json.loads(lines[3])
    item["entry"]["actor_name"] = "eve"
    seal = item["seal"]
    seal["digest"] = digest(item["entry"])
    seal["hash"] = link_hash(seal["sequence"], seal["digest"], seal["previous"])
    lines[3] = json.dumps(item).encode() + b"\n"


def _drop_tail_and_mend_the_end(lines):
    del lines[5:7]
    lines[-1] = b'{"end":{"entries":4}}\n'


DAMAGE = {
    "changed": (_change, "changed_entry", 3),
    "computed anew": (_rehash, "changed_seal", 4),
    "swapped": (_swap, "missing_entry", 2),
    "first gone": (lambda lines: lines.pop(1), "missing_entry", 1),
    "middle gone": (lambda lines: lines.pop(3), "missing_entry", 3),
    "last gone": (lambda lines: lines.pop(6), "missing_entry", 6),
    "cut": (lambda lines: lines.pop(), "cut", 7),
    "tail cut": (_drop_tail_and_mend_the_end, "missing_entry", 5),
    "torn": (lambda lines: lines.append(lines.pop()[:-3]), "unreadable", None),
    "no beginning": (lambda lines: lines.pop(0), "not_an_export", None),
    "more": (lambda lines: lines.append(lines[1]), "after_the_end", 6),
    "nonsense": (lambda lines: lines.insert(2, b"[1]\n"), "unreadable", None),
    "a fraction": (
        lambda lines: lines.__setitem__(1, lines[1].replace(b'"version":1', b'"version":1.0', 1)),
        "changed_entry",
        1,
    ),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_damage_of_an_export_is_named(history, people, how):
    damage, code, sequence = DAMAGE[how]
    lines = download(people.root, "/audit/export.jsonl").splitlines(keepends=True)
    damage(lines)
    problem = verified(b"".join(lines)).problem
    assert problem is not None
    assert (problem.code, problem.sequence) == (code, sequence)


def test_an_export_that_was_computed_anew_is_told_by_an_anchor(history, people):
    data = download(people.root, "/audit/export.jsonl")
    problem = verified(data, [anchor(4, hash="0" * 64)]).problem
    assert (problem.code, problem.sequence) == ("rewritten", 4)


def test_the_command_verifies_a_file(history, people, tmp_path: Path):
    file = tmp_path / "audit.jsonl"
    file.write_bytes(download(people.root, "/audit/export.jsonl"))
    out = io.StringIO()
    call_command("verify_audit", export=file, stdout=out)
    assert "6 entries are whole" in out.getvalue()
    file.write_bytes(file.read_bytes().replace(b"CHG-1", b"CHG-7"))
    with pytest.raises(CommandError, match="Entry 1 was changed"):
        call_command("verify_audit", export=file)
    with pytest.raises(CommandError, match="cannot be read"):
        call_command("verify_audit", export=tmp_path / "nothing")


def test_the_command_compares_a_file_with_the_anchors_of_a_repository(history, people, repository, tmp_path):
    from backups.store.anchors import append_anchor

    sealing.seal_all()
    file = tmp_path / "audit.jsonl"
    file.write_bytes(download(people.root, "/audit/export.jsonl"))
    chain = anchor(1).hash
    append_anchor(repository.open(), chain=chain, sequence=2, hash=anchor(2).hash)
    anchors = Path(repository.path) / "audit" / "anchors.jsonl"
    out = io.StringIO()
    call_command("verify_audit", export=file, anchors=[anchors], stdout=out)
    assert "1 anchors agree" in out.getvalue()
    append_anchor(repository.open(), chain=chain, sequence=3, hash="0" * 64)
    with pytest.raises(CommandError, match="Entry 3 or one before it was changed"):
        call_command("verify_audit", export=file, anchors=[anchors])


def test_the_script_in_the_documentation_verifies_an_export(history, people, tmp_path):
    """What an outsider would do, with nothing but Python."""
    text = Path("docs/audit.md").read_text()
    script = tmp_path / "check.py"
    script.write_text(text.split("```python\n")[1].split("```")[0])
    file = tmp_path / "audit.jsonl"
    file.write_bytes(download(people.root, "/audit/export.jsonl"))
    command = [sys.executable, "-I", str(script), str(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == f"whole; the head is {AuditSeal.objects.get(sequence=6).hash}\n"
    file.write_bytes(file.read_bytes().replace(b"CHG-2", b"CHG-3"))
    done = subprocess.run(command, capture_output=True, text=True)
    assert "entry 2 was changed" in done.stderr


def recorded_actions() -> set[str]:
    """Every action that the code names where it records."""
    found = set()
    for file in (path for root in ("portal", "backups", "restores") for path in Path(root).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call):
                continue
            direct = ast.unparse(node.func) == "audit.record"
            # Some hand the action on to a function that records it; there it has a dot.
            handed = [item.value for item in node.keywords if item.arg == "action"]
            for item in [*(node.args[:1] if direct else []), *handed]:
                if isinstance(item, ast.Constant) and (direct or "." in str(item.value)):
                    found.add(str(item.value))
    return found


def test_every_action_has_words():
    found = recorded_actions()
    assert {"login", "point.delete", "repository.change"} <= found
    assert found - set(presenters.ACTIONS) == set()
