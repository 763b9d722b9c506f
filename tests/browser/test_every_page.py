# SPDX-License-Identifier: GPL-3.0-or-later
"""Each page at both widths and in both themes: nothing sticks out, nothing is unnamed, hostile names are text."""

import datetime as dt

import pytest
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page

from backups.models import Repository, RestorePoint
from portal.accounts.models import GroupRule
from portal.audit import sealing
from portal.audit import services as audit
from portal.audit.models import AuditAnchor, AuditEntry, AuditSeal, AuditVerification
from portal.environments.models import ManagerIdentity, VirtualMachine
from portal.events.models import Delivery, DeliveryState, Webhook
from portal.jobs.models import Job
from tests.browser.conftest import keep_screenshot, sign_in
from tests.factories import (
    ApiTokenFactory,
    DeliveryFactory,
    DiskFactory,
    EnvironmentFactory,
    EventFactory,
    JobFactory,
    MeasurementFactory,
    PersonFactory,
    PointDiskFactory,
    PointFactory,
    RepositoryFactory,
    UserFactory,
    VmFactory,
    WebhookFactory,
)

pytestmark = pytest.mark.browser

NASTY = ["a" * 120, "<script>window.pwned = 1</script>", "مرحبا-01", "ends-with-\u202edlrow"]


@pytest.fixture
def pages(transactional_db, people) -> dict[str, str]:
    """Addresses by name, of a portal full of awkward names."""
    environment = EnvironmentFactory()
    vms = [VmFactory(name=name, environment=environment) for name in NASTY]
    for vm in vms:
        vm.teams.add(people.team)
        DiskFactory(vm=vm, alias=vm.name)
        PersonFactory(vm=vm, principal=f"{vm.name}@corp", display_name=vm.name)
    PersonFactory(vm=vms[0], principal="office@corp", kind="group")
    ManagerIdentity.objects.create(environment=environment, principal=f"{NASTY[0]}@corp", user=people.alice)
    disk = PointDiskFactory(point__vm=vms[0], alias=NASTY[1])
    failed = JobFactory(
        vm=vms[1],
        state="failed",
        error_code="x",
        error_message=f"It broke on {NASTY[1]}.",
        error_hint="Try again.",
        title=f"Back up {NASTY[1]}",
    )
    running = JobFactory(
        vm=vms[2],
        state="running",
        phase="Reading " + "b" * 100,
        bytes_done=3 << 30,
        bytes_total=5 << 30,
        bytes_per_second=2e8,
    )
    warned = JobFactory(
        vm=vms[0],
        state="succeeded",
        warnings=[f"The old checkpoint of {name} was left on the Manager." for name in NASTY],
        warnings_open=True,
    )
    running.log_lines.create(text=f"line with {NASTY[1]}")
    for number in range(40):
        state, days = ("failed", "cancelled", "succeeded")[min(number % 9, 2)], dt.timedelta(days=number % 23)
        old = JobFactory(vm=vms[number % 4], state=state, requested_for=NASTY[2])
        Job.objects.filter(pk=old.pk).update(
            created_at=timezone.now() - days, warnings=["Left."] if number % 5 == 0 else []
        )
    repository = disk.point.repository
    Repository.objects.filter(pk=repository.pk).update(
        name=NASTY[1], path=f"/mnt/{NASTY[0]}", checked_at=timezone.now(), problem=f"{NASTY[0]} is away."
    )
    for hours in range(60):
        at = timezone.now() - dt.timedelta(hours=hours)
        MeasurementFactory(repository=repository, at=at, bytes_used=(100 - hours) << 30)
    left_out = [{"disk_id": "x", "alias": name, "reason": "it is a lun disk"} for name in NASTY]
    RestorePoint.objects.filter(pk=disk.point.pk).update(
        excluded_disks=left_out, held_at=timezone.now(), held_by=NASTY[2][:20], held_why=NASTY[1]
    )
    PointFactory.create_batch(30, vm=vms[0], repository=repository)
    trashed = PointFactory(
        vm=vms[1], repository=repository, deleted_at=timezone.now(), deleted_by="x", deleted_why=NASTY[0]
    )
    RepositoryFactory(name=NASTY[2])
    for name in NASTY:
        GroupRule.objects.create(source="oidc", group=name, team=people.team, role="viewer")
    webhook, delivery = _webhook(people.team, vms)
    held = f"/repositories/{repository.uuid}/"
    return {
        "overview": "/",
        "machines": "/machines/",
        "machine": vms[0].get_absolute_url(),
        "point": disk.point.get_absolute_url(),
        "point-in-trash": trashed.get_absolute_url(),
        "repositories": "/repositories/",
        "repository": held,
        "repository-points": f"{held}points/",
        "repository-none": f"{held}points/?q=nothing",
        "repository-trash": f"{held}trash/",
        "repository-change": f"{held}change/",
        "repository-add": "/repositories/add/",
        "restore": f"{disk.point.get_absolute_url()}restore/",
        "jobs": "/jobs/",
        "jobs-warned": "/jobs/?state=warned",
        "job-failed": failed.get_absolute_url(),
        "job-warned": warned.get_absolute_url(),
        "job-running": running.get_absolute_url(),
        "history": "/history/",
        "history-filtered": "/history/?q=a&who=alice&result=failed&since=nonsense",
        "history-of-a-machine": f"/history/?vm={vms[0].uuid}",
        "history-calendar": "/history/calendar/",
        "history-coverage": "/history/coverage/",
        "managers": "/managers/",
        "manager": f"/managers/{environment.uuid}/",
        "owners": f"/managers/{environment.uuid}/people/",
        "manager-add": "/managers/add/",
        "mine": "/mine/",
        "my-restores": "/mine/restores/",
        "search": "/search/?q=a",
        "audit": "/audit/",
        "audit-none": "/audit/?who=nobody",
        "audit-entry": f"/audit/{_history(vms).uuid}/",
        "settings": "/settings/",
        "group-rules": "/settings/groups/",
        "tokens": "/settings/tokens/",
        "token-add": "/settings/tokens/add/",
        "token": ApiTokenFactory(user=people.root, name=NASTY[1], team=people.team).get_absolute_url(),
        "services": "/settings/services/",
        "service-add": "/settings/services/add/",
        "service": _service(),
        "api": "/api/v1/docs",
        "sessions": "/settings/sessions/",
        "two-step": "/settings/two-step/",
        "confirm": "/confirm/?next=/settings/two-step/app/",
        "webhooks": "/webhooks/",
        "webhook-add": "/webhooks/add/",
        "webhook": webhook.get_absolute_url(),
        "webhook-change": f"{webhook.get_absolute_url()}change/",
        "webhook-delivery": delivery.get_absolute_url(),
        "teams": "/teams/",
        "team": people.team.get_absolute_url(),
        "team-add": "/teams/add/",
        "machine-people": f"{vms[0].get_absolute_url()}people/",
        "missing": "/machines/00000000-0000-0000-0000-000000000000/",
    }


def _service() -> str:
    """Address of a service account with tokens in every state."""
    service = UserFactory(username=NASTY[0], is_service=True)
    now = timezone.now()
    ApiTokenFactory(user=service, name=NASTY[0], networks=["192.0.2.0/24"], last_used_at=now)
    ApiTokenFactory(user=service, name=NASTY[2], expires_at=now - dt.timedelta(days=1))
    ApiTokenFactory(user=service, name=NASTY[3], revoked_at=now, revoked_by_name=NASTY[0])
    return reverse("tokens:service", args=[service.uuid])


def _webhook(team, vms) -> tuple[Webhook, Delivery]:
    """One that needs somebody, with deliveries of all states about awkward names."""
    webhook = WebhookFactory(team=team, name=NASTY[0], url=f"https://hooks.example.com/{NASTY[0]}")
    WebhookFactory(name=NASTY[3])
    for state, vm in zip(DeliveryState, vms, strict=True):
        event = EventFactory(vm=vm, data={"vm": {"name": vm.name}, "job": {"ticket": NASTY[1]}})
        delivery = DeliveryFactory(webhook=webhook, event=event, state=state, problem=f"It said {NASTY[1]}.")
        delivery.attempts.create(number=1, seconds=0.2, status=500, answer=NASTY[1] * 9, problem=NASTY[0])
        delivery.attempts.create(number=2)
    return webhook, webhook.deliveries.get(state=DeliveryState.FAILED)


def _history(vms: list[VirtualMachine]) -> AuditEntry:
    """Entries with awkward names; one with a change."""
    for vm in vms:
        audit.record("backup.start", actor=None, subject=vm, ticket=NASTY[0][:90])
    found = audit.record(
        "x.y_z", actor=None, subject=vms[1], before={"name": NASTY[0]}, after={"name": NASTY[1]}, more=NASTY
    )
    sealing.seal_all()
    seen = AuditSeal.objects.latest("sequence")
    place = {"at": timezone.now(), "place": "x", "place_name": NASTY[0], "sequence": 1, "hash": seen.hash}
    AuditAnchor.objects.create(**place)
    AuditVerification.objects.create(
        at=timezone.now(),
        entries=2,
        anchors=1,
        seconds=0.5,
        problem=f"Entry 3 (id 3) was changed. It reads: {NASTY[0]}",
    )
    return found


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_no_page_sticks_out_or_runs_a_name(open_page, pages, width, dark):
    page: Page = open_page(width=width, dark=dark)
    sign_in(page, "root")
    for name, address in pages.items():
        page.goto(address)
        keep_screenshot(page, f"{name}-{width}-{'dark' if dark else 'light'}")
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{name} is {wide} pixels too wide at {width}"
        assert page.locator("h1").count() == 1, f"{name} must have one h1"
        assert page.evaluate("window.pwned") is None, f"{name} ran a name as a script"
        unnamed = page.evaluate(
            """[...document.querySelectorAll('a, button, input:not([type=hidden]), select')].filter(e =>
               e.offsetParent && !(e.innerText || e.getAttribute('aria-label') || e.title
               || (e.labels && e.labels.length) || e.textContent.trim())).map(e => e.outerHTML)"""
        )
        assert unnamed == [], f"{name} has controls without a name"


def test_the_keyboard_reaches_the_content_and_the_search(open_page, pages):
    page: Page = open_page()
    sign_in(page, "root")
    page.goto("/machines/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent").strip() == "Skip to the content"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.name") == "q"
    page.keyboard.type("aaaa")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search/?q=aaaa*")
    assert page.get_by_role("link", name="a" * 120).count() >= 1
