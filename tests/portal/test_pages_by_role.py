# SPDX-License-Identifier: GPL-3.0-or-later
"""Every address of the portal, as everybody, against the table of rights; and what must hold besides.

The table is portal/rights/table.py: a new route is entered there.
"""

import uuid

import pytest
from django.db import transaction
from django.test import Client
from django.urls import path, reverse

from portal.audit.models import AuditEntry
from portal.jobs.models import Job
from portal.rights import prose, walk, world
from portal.rights.cells import OK, OPERATES, SEES, Cells, Persona, Row
from portal.rights.table import TABLE

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]

PAGES = [row for row in TABLE if not row.is_api]


@pytest.fixture
def walked(rings, tmp_path):
    """The world of the walk: one machine with everything on it, and everybody."""
    return world.build(tmp_path)


@pytest.fixture
def addresses(walked):
    return {row.route: reverse(row.route, args=walked.ids[row.of]) for row in TABLE}


def signed_in(walked, persona: Persona) -> Client:
    client = Client()
    client.force_login(walked.people[persona])
    return client


def test_everybody_is_answered_as_the_table_says(rings, tmp_path):
    done = walk.walk(tmp_path)
    assert done.wrong == []
    assert done.routes == len(TABLE)
    assert {(cell.route, cell.persona) for cell in done.cells if cell.method == "GET"} >= {
        (row.route, persona) for row in TABLE if row.get for persona in Persona
    }


def test_a_cell_that_differs_is_found(rings, tmp_path):
    said = Row("environments:vm", "", SEES.but("404", "ok"), of="vm")
    done = walk.walk(tmp_path, [said])
    assert done.wrong == [
        "GET environments:vm as outsider: 404, the table says ok",
    ]


def test_a_method_that_the_table_does_not_name_is_found(rings, tmp_path):
    done = walk.walk(tmp_path, [Row("backups:verify", "", of="point")])
    assert done.wrong == ["POST backups:verify as platform: ok, the table says 405"]


def test_what_one_cell_changed_is_taken_back_before_the_next(rings, tmp_path):
    done = walk.walk(tmp_path, [Row("backups:back_up", "", post=OPERATES, of="vm")])
    assert done.wrong == []
    assert not Job.objects.exists()


def test_a_route_that_the_table_does_not_name_is_found(monkeypatch):
    known = walk.get_resolver().url_patterns
    new = path("secret/door/", lambda request: None, name="door")
    monkeypatch.setattr(walk.get_resolver(), "url_patterns", [*known, new])
    assert walk.unnamed() == ["door"]


def test_the_table_in_the_documentation_is_this_one():
    assert prose.table_of(prose.document().read_text()) == prose.written()


@pytest.mark.parametrize("text", ["ok ok", "in 404 ok ok ok ok ok fine"])
def test_cells_name_one_known_answer_for_everybody(text):
    with pytest.raises(ValueError, match="does not name"):
        Cells.of(text)


# Everything is as it is asked for already, or only shown, so nothing was done; each has tests of its own where something is.
NOT_RECORDED = {
    "account_login",
    "account_reauthenticate",
    "accounts:login",
    "accounts:session_end_others",
    "environments:environment_snapshots",
    "events:webhook_switch",
    "jobs:seen_to",
    "jobs:seen_to_all",
    "mfa_authenticate",
    "mfa_login_webauthn",
    "mfa_reauthenticate",
    "mfa_reauthenticate_webauthn",
    "teams:add_machine",
    "teams:preview_rules",
}


def test_whatever_is_done_is_recorded(walked, addresses):
    unrecorded = set()
    for row in PAGES:
        # Where the password is asked for once more, nothing is done before.
        if row.post is None or row.post.by_persona()[Persona.PLATFORM] != OK:
            continue
        client, before = signed_in(walked, Persona.PLATFORM), AuditEntry.objects.count()
        with transaction.atomic():
            assert client.post(addresses[row.route], walked.filled(row.data)).status_code < 400, row.route
            if AuditEntry.objects.count() == before:
                unrecorded.add(row.route)
            transaction.set_rollback(True)
    assert unrecorded == NOT_RECORDED


def test_nothing_is_done_without_the_csrf_token(walked, addresses):
    client = Client(enforce_csrf_checks=True)
    client.force_login(walked.people[Persona.PLATFORM])
    before = list(Job.objects.order_by("pk").values_list("pk", "state"))
    rows = [row for row in PAGES if row.post and not row.route.endswith("login")]
    found = {
        row.route: client.post(addresses[row.route], walked.filled(row.data)).status_code for row in rows
    }
    assert found == dict.fromkeys(found, 403)
    assert list(Job.objects.order_by("pk").values_list("pk", "state")) == before


def test_signing_in_needs_the_csrf_token(people):
    client = Client(enforce_csrf_checks=True)
    response = client.post(reverse("accounts:login"), {"username": "alice", "password": "correct horse"})
    assert response.status_code == 403
    assert "_auth_user_id" not in client.session


def test_the_style_guide_is_for_staff(people):
    people.root.is_staff = True
    people.root.save()
    client = Client()
    client.force_login(people.root)
    assert client.get(reverse("styleguide")).status_code == 200


def test_what_does_not_exist_looks_like_what_is_somebody_elses(walked, addresses):
    client = signed_in(walked, Persona.OUTSIDER)
    hidden = client.get(addresses["environments:vm"])
    nothing = client.get(reverse("environments:vm", args=[uuid.uuid4()]))
    assert (hidden.status_code, nothing.status_code) == (404, 404)
    assert "shop" not in hidden.content.decode()


@pytest.mark.parametrize("persona", [Persona.VIEWER, Persona.OUTSIDER])
def test_lists_and_search_show_only_what_a_person_may_see(walked, addresses, persona):
    client, sees = signed_in(walked, persona), persona == Persona.VIEWER
    for route in ("dashboard:overview", "environments:vm_list", "jobs:job_list", "dashboard:search"):
        text = client.get(addresses[route], {"q": "shop"}).content.decode()
        links = [addresses[key] in text for key in ("environments:vm", "jobs:job", "backups:point")]
        assert any(links) == sees, route
    csv = client.get(addresses["environments:vm_list"], {"format": "csv"}).content.decode()
    assert ("shop" in csv) == sees
