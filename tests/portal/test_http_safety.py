# SPDX-License-Identifier: GPL-3.0-or-later
"""What every answer must be like: escaped, with its policy and its request id, and never a crash on odd input."""

import re

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from portal.audit.models import AuditEntry
from portal.jobs.states import JobState
from tests.factories import (
    DiskFactory,
    EnvironmentFactory,
    JobFactory,
    PointDiskFactory,
    PointFactory,
    VmFactory,
)

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]

NASTY = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


@pytest.fixture
def client(people) -> Client:
    client = Client()
    client.force_login(people.root)
    return client


def test_names_and_log_lines_are_text_on_every_page(client):
    domain = {**EnvironmentFactory.storage_domains[0], "name": NASTY}
    environment = EnvironmentFactory(
        name=NASTY,
        problem=NASTY,
        clusters=[{"cluster_id": "c1", "name": NASTY, "version": "4.6", "data_center_id": "d1"}],
        storage_domains=[domain],
    )
    vm = VmFactory(name=NASTY, description=NASTY, environment=environment, cluster_name=NASTY)
    DiskFactory(vm=vm, alias=NASTY)
    job = JobFactory(vm=vm, title=NASTY, phase=NASTY, ticket=NASTY[:99], state=JobState.RUNNING)
    job.log_lines.create(text=NASTY)
    failed = JobFactory(
        vm=vm,
        state=JobState.FAILED,
        error_message=NASTY,
        error_hint=NASTY,
        warnings=[NASTY],
        finished_at=timezone.now(),
    )
    point = PointFactory(vm=vm, reason=NASTY, verify_problem=NASTY, job=job)
    PointDiskFactory(point=point, alias=NASTY)
    addresses = [
        "/",
        f"/search/?q={NASTY}",
        "/machines/",
        f"/machines/?q={NASTY}",
        vm.get_absolute_url(),
        "/managers/",
        reverse("environments:environment", args=[environment.uuid]),
        point.get_absolute_url(),
        reverse("restores:restore", args=[point.uuid]),
        f"{reverse('restores:restore', args=[point.uuid])}?name={NASTY}&ticket={NASTY}",
        f"/jobs/?q={NASTY}&state={NASTY}",
        job.get_absolute_url(),
        failed.get_absolute_url(),
        reverse("jobs:job_progress", args=[job.uuid]),
        f"{reverse('jobs:job_log', args=[job.uuid])}?after=0",
    ]
    for address in addresses:
        response = client.get(address)
        assert response.status_code == 200, address
        text = response.content.decode()
        assert "<script>alert" not in text, address
        assert "<img src=x" not in text, address
    told = "".join(client.get(job.get_absolute_url()).content.decode().split())
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in told


def test_the_whole_log_is_plain_text(client):
    job = JobFactory()
    job.log_lines.create(text=NASTY)
    response = client.get(reverse("jobs:job_log", args=[job.uuid]))
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Content-Disposition"].startswith("attachment")


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x", "\t=1"])
def test_a_machine_name_is_no_formula_in_a_table(client, name):
    VmFactory(name=name)
    rows = client.get("/machines/?format=csv").content.decode().splitlines()
    assert rows[1].lstrip('"').startswith("'")


@pytest.mark.parametrize("address", ["/", "/login/", "/nothing/", "/alive/", "/machines/?format=csv"])
def test_every_answer_has_the_content_security_policy(client, address):
    policy = client.get(address)["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize("address", ["/", "/machines/", "/jobs/", "/managers/add/", "/settings/"])
def test_pages_have_nothing_that_the_policy_forbids(client, address):
    text = client.get(address).content.decode()
    assert not re.search(r"<script(?![^>]*\bsrc=)", text)
    assert not re.search(r"\s(style|on[a-z]+)=", text)
    assert not re.search(r"(src|href)=\"https?://(?!testserver)", text)


def test_a_well_formed_request_id_is_echoed_and_stands_in_the_audit():
    response = Client().post("/login/", {"username": "x", "password": "y"}, HTTP_X_REQUEST_ID="abc-DEF_12345")
    assert response["X-Request-Id"] == "abc-DEF_12345"
    assert AuditEntry.objects.get().request_id == "abc-DEF_12345"


@pytest.mark.parametrize("given", ["short", "x" * 37, "with space 12", "new\nline12345", "<script>12345", ""])
def test_another_request_id_is_replaced(given):
    answered = Client().get("/login/", HTTP_X_REQUEST_ID=given)["X-Request-Id"]
    assert answered != given
    assert re.fullmatch(r"[0-9a-f]{16}", answered)


@pytest.mark.parametrize("address", ["/search/?q=a%00b", "/machines/?q=%00", "/jobs/?q=%00&state=%00"])
def test_a_nul_character_is_a_bad_request_and_no_crash(client, address):
    assert client.get(address).status_code == 400


def test_a_nul_character_in_a_form_is_a_bad_request(client):
    vm = VmFactory()
    DiskFactory(vm=vm)
    response = client.post(reverse("backups:back_up", args=[vm.uuid]), {"ticket": "a\0b"})
    assert response.status_code == 400
    assert not vm.jobs.exists()


@pytest.mark.parametrize(
    "query",
    [
        "/jobs/?cursor=nonsense",
        "/jobs/?cursor=WyJvbGRlciIsWyI5OTk5OTk5OTk5OTk5OTk5OTk5OSJdXQ",
        "/machines/?page=99999999999999999999",
        "/machines/?page=-1&sort=--name",
        "/machines/?sort=nonsense&status=nonsense",
        "/search/?q=" + "x" * 3000,
        "/managers/?page=nonsense",
    ],
)
def test_odd_parameters_are_no_crash(client, query):
    assert client.get(query).status_code == 200


@pytest.mark.parametrize("after", ["-1", "x", "9" * 18, "9" * 30, "²"])
def test_odd_offsets_into_a_log_are_no_crash(client, after):
    job = JobFactory()
    assert client.get(f"{reverse('jobs:job_log', args=[job.uuid])}?after={after}").status_code == 200


def test_odd_choices_on_the_machine_page_are_no_crash(client):
    vm = PointFactory().vm
    response = client.get(f"{vm.get_absolute_url()}?point=nonsense&month=2026-99")
    assert response.status_code == 200


def test_a_known_error_is_a_page_and_for_htmx_a_fragment(client):
    job = JobFactory(state=JobState.SUCCEEDED)
    address = reverse("jobs:cancel", args=[job.uuid])
    page, fragment = client.post(address), client.post(address, HTTP_HX_REQUEST="true")
    assert (page.status_code, fragment.status_code) == (409, 409)
    for response in (page, fragment):
        assert "already ended" in response.content.decode()
        assert response["X-Request-Id"] in response.content.decode()
    assert "<html" in page.content.decode()
    assert "<html" not in fragment.content.decode()
