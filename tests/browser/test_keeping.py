# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person does with restore points and repositories, with scripts and without."""

import re

import pytest
from playwright.sync_api import Page, expect

from backups import services
from backups.models import RestorePoint
from tests.backups.support import publish
from tests.browser.conftest import keep_screenshot, sign_in
from tests.factories import JobFactory, VmFactory

pytestmark = pytest.mark.browser


@pytest.fixture
def point(transactional_db, people, repository) -> RestorePoint:
    vm = VmFactory(name="web-01")
    vm.teams.add(people.team)
    return services.record_point(repository, vm, publish(repository, vm), None)


def press(page: Page, opener: str, verb: str, *, javascript: bool, **answers: str) -> None:
    """Opens the dialog of that name where there are scripts; without them it stands open on the page."""
    if javascript:
        page.get_by_role("button", name=opener, exact=True).click()
    dialog = page.locator("dialog.confirm").filter(has=page.get_by_role("button", name=verb, exact=True))
    for label, text in answers.items():
        dialog.get_by_label(re.compile(label)).fill(text)
    dialog.get_by_role("button", name=verb, exact=True).click()


@pytest.mark.parametrize("javascript", [True, False], ids=["scripts", "no-scripts"])
def test_a_restore_point_is_pinned_held_deleted_and_taken_back(open_page, people, point, javascript):
    page: Page = open_page(javascript=javascript)
    sign_in(page, "alice")
    page.goto(point.get_absolute_url())
    press(page, "Pin", "Pin", javascript=javascript, Why="Before the upgrade")
    expect(page.get_by_role("button", name="Unpin")).to_be_visible()
    press(page, "Hold", "Hold", javascript=javascript, Why="Case 4711")
    expect(page.locator("main")).to_contain_text("Case 4711")
    expect(page.get_by_role("button", name="Delete", exact=True)).to_have_count(0)
    press(page, "Release the hold", "Release the hold", javascript=javascript, Why="Closed")
    keep_screenshot(page, f"point-kept-{'scripts' if javascript else 'plain'}")
    answers = {"Type": "web-01", "Why": "By mistake"}
    press(page, "Delete", "Delete restore point", javascript=javascript, **answers)
    page.goto(point.get_absolute_url())
    expect(page.locator("main")).to_contain_text("it can be had back")
    page.get_by_role("button", name="Take back out of the trash").click()
    expect(page.locator("main")).to_contain_text("was taken back")
    point.refresh_from_db()
    assert (point.deleted_at, point.held_at, point.pinned_by) == (None, None, "alice")


@pytest.mark.parametrize("javascript", [True, False], ids=["scripts", "no-scripts"])
def test_a_warning_is_seen_to_and_a_repository_looked_after(open_page, people, point, javascript):
    job = JobFactory(vm=point.vm, state="succeeded", warnings=["A checkpoint was left."], warnings_open=True)
    page: Page = open_page(javascript=javascript)
    sign_in(page, "root")
    page.goto("/")
    page.get_by_role("link", name=re.compile("See to it")).click()
    page.get_by_role("button", name="Seen to").click()
    expect(page.locator("#job-progress")).to_contain_text("Seen to by root")
    job.refresh_from_db()
    assert not job.warnings_open
    page.goto("/settings/")
    page.get_by_role("link", name="Repositories").click()
    page.get_by_role("link", name="Test repository").click()
    press(page, "Verify all", "Verify all", javascript=javascript)
    # It may have ended by the time that the page is there.
    expected = re.compile("Verif(ying|ied) repository Test repository")
    expect(page.get_by_role("heading", level=1)).to_contain_text(expected)


@pytest.mark.flow
def test_a_repository_is_added_collected_and_read_by_workers(open_page, workers, people, point, tmp_path):
    page: Page = open_page()
    sign_in(page, "root")
    page.goto("/repositories/")
    page.get_by_role("link", name="Add a repository").click()
    page.get_by_label("Name").fill("Vault")
    page.get_by_role("textbox", name="Folder").fill(str(tmp_path / "vault"))
    page.get_by_role("button", name="Add repository").click()
    expect(page.locator("#job-progress")).to_contain_text("The repository can be used now.", timeout=60_000)
    page.get_by_role("link", name="See the repository").click()
    expect(page.locator("main")).to_contain_text("Reachable")
    expect(page.locator(".space-words").first).to_contain_text("free of")
    page.goto(point.repository.get_absolute_url())
    for opener, outcome in (("Verify all", "all right"), ("Collect garbage", "were removed")):
        press(page, opener, opener, javascript=True)
        expect(page.locator("#job-progress")).to_contain_text(outcome, timeout=60_000)
        page.get_by_role("link", name="See the repository").click()
    expect(page.locator("main")).to_contain_text("read and found right")
    expect(page.locator("main")).to_contain_text("Nothing was unused.")
    keep_screenshot(page, "repository-looked-after")
    point.refresh_from_db()
    assert (point.verify_problem, point.verified_at is not None) == ("", True)
