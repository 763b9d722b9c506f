# SPDX-License-Identifier: GPL-3.0-or-later
"""Names, logs and answers that want to be a script, on every page, in a real browser: nothing runs, nothing is made.

Every text of every machine, job, log line, point, webhook and person is hostile at once.
"""

import pytest
from django.db.models import CharField, F, TextField, Value
from django.db.models.functions import Cast, Concat, Left
from playwright.sync_api import Page

from backups.models import Repository, RestorePoint, RestorePointDisk
from portal.audit import services as audit
from portal.environments.models import Disk, Environment, VirtualMachine
from portal.events.models import Delivery, DeliveryAttempt, Event, Webhook
from portal.jobs.models import Job, JobLogLine, JobStep
from tests.browser.conftest import sign_in
from tests.browser.test_every_page import pages

__all__ = ["pages"]
pytestmark = pytest.mark.browser

RUN = "window.pwned=1;alert(1)"
SHORT = f"\"'><img src=x onerror={RUN}>"
LONG = (
    f"</title></script><script>{RUN}</script><svg/onload={RUN}>"
    f"\" onmouseover={RUN} onfocus='{RUN}' autofocus x=\"{{{{7*7}}}}${{7*7}}"
)
# Texts that mean something to the portal itself: states, kinds, addresses and digests are of a fixed form.
MEANT = {
    "state", "kind", "task", "status", "mode", "method", "consistency", "format", "storage_type", "content_type",
    "capability", "via", "role", "level", "password_token", "ca_pem", "api_url", "subject_url", "index_file",
    "digest", "manifest_sha256", "secret_token", "old_secret_token", "compatibility", "interface",
}  # fmt: skip
MODELS = (
    VirtualMachine, Disk, Environment, Job, JobStep, JobLogLine, RestorePoint, RestorePointDisk, Repository, Webhook,
    Delivery, DeliveryAttempt,
)  # fmt: skip
FINDINGS = """() => ({
    scripts: [...document.scripts].filter(e => !e.src).map(e => e.outerHTML.slice(0, 200)),
    handlers: [...document.querySelectorAll('*')].filter(
        e => [...e.attributes].some(a => a.name.startsWith('on'))).map(e => e.outerHTML.slice(0, 200)),
    images: [...document.images].map(e => e.outerHTML.slice(0, 200)),
    links: [...document.querySelectorAll('[href], [action], [src]')].filter(e => /^\\s*(javascript|data):/i.test(
        e.getAttribute('href') || e.getAttribute('action') || e.getAttribute('src'))).map(e => e.outerHTML.slice(0, 200)),
    ran: window.pwned || null,
})"""


@pytest.fixture
def hostile_pages(pages, people) -> dict[str, str]:
    """The addresses of all pages, of a portal where every text is hostile."""
    for model in MODELS:
        texts = {
            field.name: _hostile(field)
            for field in model._meta.get_fields()
            if isinstance(field, CharField | TextField) and not field.choices and field.name not in MEANT
        }
        model.objects.update(**texts)
    Event.objects.update(
        data={"vm": {"name": LONG}, "job": {"ticket": LONG, "title": LONG}, "problem": {"message": LONG}}
    )
    for name in ("alice", "root"):
        person = getattr(people, name)
        type(person).objects.filter(pk=person.pk).update(first_name=SHORT, last_name=SHORT)
    job = Job.objects.get(state="running")
    audit.record("backup.start", actor=people.alice, subject=job, reason=LONG, ticket=SHORT)
    return {**pages, "fragment": f"{job.get_absolute_url()}progress/"}


def _hostile(field):
    """As long as the column takes; with the row's number where it must be unique."""
    length = field.max_length or 10_000
    text = LONG if length > len(LONG) else SHORT
    if field.unique:
        return Left(Concat(Cast(F("pk"), CharField()), Value(SHORT)), length)
    return text[:length]


def test_nothing_that_somebody_named_runs_or_becomes_a_part_of_a_page(open_page, hostile_pages):
    page: Page = open_page()
    dialogs, asked = [], []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: asked.append(request.url))
    sign_in(page, "root")
    shown = 0
    for name, address in hostile_pages.items():
        page.goto(address)
        found = page.evaluate(FINDINGS)
        assert found == {"scripts": [], "handlers": [], "images": [], "links": [], "ran": None}, name
        shown += "onerror=" in page.content() or "onmouseover=" in page.content()
    assert dialogs == []
    assert shown >= len(hostile_pages) // 2, "the hostile texts must stand on the pages, as text"
    assert not [url for url in asked if url.rstrip("/").endswith("/x")], (
        "no image of a made-up tag was asked for"
    )


def test_what_a_running_job_sends_later_is_text_too(open_page, hostile_pages):
    """Fragments are put into the page by a script, which is another way in."""
    page: Page = open_page()
    dialogs = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    sign_in(page, "root")
    with page.expect_response(lambda response: "/progress/" in response.url):
        page.goto(hostile_pages["job-running"])
    page.wait_for_function("document.querySelector('[data-log]') !== null")
    page.mouse.move(400, 300)
    page.get_by_role("heading", level=1).hover()
    found = page.evaluate(FINDINGS)
    assert (found["handlers"], found["images"], found["ran"]) == ([], [], None)
    assert dialogs == []
