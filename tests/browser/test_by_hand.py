# SPDX-License-Identifier: GPL-3.0-or-later
"""A person backs up and restores a machine by hand."""

import re

import pytest
from playwright.sync_api import Page, expect

from portal.environments.services import refresh_inventory
from portal.jobs.models import Job
from restores.models import Restore
from tests.browser.conftest import keep_screenshot, sign_in
from tests.flows import support
from tests.worker_support import finished

pytestmark = [pytest.mark.browser, pytest.mark.lab, pytest.mark.flow]


def _newest_job() -> Job:
    return Job.objects.latest("pk")


def test_an_operator_backs_up_and_restores_by_hand_and_sees_it_live(
    open_page, environment, repository, workers, people
):
    page: Page = open_page()
    sign_in(page, "bob")
    keep_screenshot(page, "overview-before")
    page.get_by_role("link", name="Virtual machines").first.click()
    page.get_by_role("link", name="web-01").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("web-01")
    keep_screenshot(page, "machine-before")
    page.get_by_role("button", name="Back up now").first.click()
    page.wait_for_url(re.compile(r"/jobs/[0-9a-f-]{36}/"))
    keep_screenshot(page, "job-running")
    # The page turns to its end by itself: nothing is reloaded here.
    expect(page.locator("#job-progress")).to_contain_text("Succeeded", timeout=60_000)
    keep_screenshot(page, "job-succeeded")
    backup = _newest_job()
    assert backup.state == "succeeded"
    assert backup.requested_by_name == "bob"

    page.locator("#job-progress .page-actions a").first.click()
    expect(page.get_by_text("casync extract").first).to_be_visible()
    keep_screenshot(page, "point")
    page.get_by_role("link", name="Restore", exact=True).first.click()
    page.get_by_label("Name of the new machine").fill("web-01-by-hand")
    expect(page.locator("#plan")).to_contain_text("web-01-by-hand")
    keep_screenshot(page, "restore-plan")
    page.get_by_role("button", name="Restore as new machine").click()
    page.wait_for_url(re.compile(r"/jobs/[0-9a-f-]{36}/"))
    expect(page.locator("#job-progress")).to_contain_text("Succeeded", timeout=60_000)
    keep_screenshot(page, "restore-succeeded")

    restored = Restore.objects.get(job=_newest_job())
    assert restored.target_name == "web-01-by-hand"
    assert restored.proven_at is not None
    refresh_inventory(environment)
    assert environment.vms.filter(name="web-01-by-hand", gone_at=None, status="down").exists()
    support.remove_vm(environment, str(restored.new_vm_id))


def test_it_works_without_javascript(open_page, environment, repository, workers, people):
    page: Page = open_page(javascript=False)
    sign_in(page, "bob")
    page.goto("/machines/")
    page.get_by_role("link", name="files-01").first.click()
    page.get_by_role("button", name="Back up now").first.click()
    page.wait_for_url(re.compile(r"/jobs/[0-9a-f-]{36}/"))
    finished(_newest_job())
    page.reload()
    expect(page.locator("#job-progress")).to_contain_text("Succeeded")
    page.locator("#job-progress .page-actions a").first.click()
    page.get_by_role("link", name="Restore", exact=True).first.click()
    page.get_by_label("Name of the new machine").fill("web-01")
    page.get_by_role("button", name="See what will happen").click()
    expect(page.locator("#plan")).to_contain_text("exists already")
    page.get_by_label("Name of the new machine").fill("files-01-plain")
    page.get_by_role("button", name="See what will happen").click()
    expect(page.locator("#plan")).to_contain_text("files-01-plain")
    page.get_by_role("button", name="Restore as new machine").click()
    page.wait_for_url(re.compile(r"/jobs/[0-9a-f-]{36}/"))
    job = finished(_newest_job())
    assert job.state == "succeeded"
    support.remove_vm(environment, str(Restore.objects.get(job=job).new_vm_id))


def test_a_running_job_is_cancelled_from_its_page(open_page, environment, repository, workers, people):
    page: Page = open_page()
    sign_in(page, "bob")
    page.goto(environment.vms.get(name="web-01").get_absolute_url())
    page.get_by_role("button", name="Back up now").first.click()
    page.wait_for_url(re.compile(r"/jobs/[0-9a-f-]{36}/"))
    page.locator("#cancel-button").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel this job").click()
    expect(page.locator("#job-progress")).to_contain_text(re.compile("Cancelled|Succeeded"), timeout=30_000)
    job = finished(_newest_job())
    assert job.cancel_requested_by == "bob"
    assert job.state == "cancelled"
    expect(page.get_by_role("button", name="Try again")).to_be_visible()
