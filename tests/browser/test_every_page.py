# SPDX-License-Identifier: GPL-3.0-or-later
"""Each page at both widths and in both themes: nothing sticks out, nothing is unnamed, hostile names are text."""

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import keep_screenshot, sign_in
from tests.factories import (
    DiskFactory,
    EnvironmentFactory,
    JobFactory,
    PointDiskFactory,
    PointFactory,
    VmFactory,
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
    PointFactory.create_batch(30, vm=vms[0], repository=disk.point.repository)
    return {
        "overview": "/",
        "machines": "/machines/",
        "machine": vms[0].get_absolute_url(),
        "point": disk.point.get_absolute_url(),
        "restore": f"{disk.point.get_absolute_url()}restore/",
        "jobs": "/jobs/",
        "job-failed": failed.get_absolute_url(),
        "job-warned": warned.get_absolute_url(),
        "job-running": running.get_absolute_url(),
        "managers": "/managers/",
        "manager": f"/managers/{environment.uuid}/",
        "manager-add": "/managers/add/",
        "search": "/search/?q=a",
        "settings": "/settings/",
        "missing": "/machines/00000000-0000-0000-0000-000000000000/",
    }


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
