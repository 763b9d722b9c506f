# SPDX-License-Identifier: GPL-3.0-or-later
"""The audit history by the API: as far as the role and the token let one read."""

import pytest
from django.utils import timezone

from portal.audit import sealing
from portal.audit import services as audit
from tests.api.support import api_of, queries_of
from tests.factories import VmFactory

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]


@pytest.fixture
def entry(people, world):
    audit.record("backup.start", actor=people.root, subject=VmFactory(), ticket="INC-8")
    return audit.record(
        "backup.start", actor=people.bob, subject=world.vm, ticket="INC-7", via="api", requested_for="Zoë"
    )


def test_auditors_read_what_concerns_their_team(people, entry, alice):
    row = alice.get(f"audit/{entry.uuid}").json()
    assert (row["actor"], row["action"], row["ticket"], row["via"]) == ("bob", "backup.start", "INC-7", "api")
    assert row["details"]["requested_for"] == "Zoë"
    assert row["vm"] == row["object_id"] == str(entry.vm)

    def found(api=alice, **parameters):
        return [
            item["uuid"] for item in api.get("audit", {"action": "backup.", **parameters}).json()["results"]
        ]

    today = timezone.localdate().isoformat()
    assert (
        found()
        == found(ticket="INC-7")
        == found(who="bob", via="api", since=today, until=today)
        == [row["uuid"]]
    )
    assert found(object=str(entry.vm)) == found(object="sho") == [row["uuid"]]
    assert found(who="root") == found(until="2001-01-01") == []
    assert len(found(api_of(people.root))) == 2


def test_the_seal_is_told_once_it_is_there(entry, alice):
    assert alice.get(f"audit/{entry.uuid}").json()["seal"] is None
    sealing.seal_all()
    seal = alice.get(f"audit/{entry.uuid}").json()["seal"]
    assert seal == {"sequence": entry.seal.sequence, "hash": entry.seal.hash}


def test_who_may_not_read_the_history_reads_none(people, entry):
    for api, code in (
        (api_of(people.carol), "not_allowed"),
        (api_of(people.bob), "not_allowed"),
        (api_of(people.alice, "backup", "restore", "admin"), "scope_missing"),
    ):
        for path in ("audit", f"audit/{entry.uuid}"):
            answer = api.get(path)
            assert (answer.status_code, answer.json()["code"]) == (403, code)
    assert api_of(people.dave).get(f"audit/{entry.uuid}").status_code == 404
    tied = api_of(people.alice, "read", team=people.team)
    assert tied.get(f"audit/{entry.uuid}").status_code == 200


def test_many_entries_cost_no_more_queries(people, entry, alice):
    counted = []
    for _ in range(2):
        for _ in range(5):
            audit.record("backup.start", actor=people.bob, subject=VmFactory())
            audit.record("point.pin", actor=people.alice)
        alice.get("audit")
        counted.append(queries_of(alice, "audit"))
    assert counted[0] == counted[1] <= 8
