# SPDX-License-Identifier: GPL-3.0-or-later
"""The history by hand: filters change the address and the list, the keyboard reaches a day of the calendar."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import sign_in
from tests.factories import JobFactory, VmFactory

pytestmark = pytest.mark.browser


def test_a_filter_changes_list_and_address_and_back_undoes_it(open_page, transactional_db, people):
    JobFactory(vm=VmFactory(name="good"), state="succeeded")
    JobFactory(vm=VmFactory(name="bad"), state="failed")
    page: Page = open_page()
    sign_in(page, "root")
    page.goto("/history/")
    page.get_by_label("Result", exact=True).select_option("failed")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("link", name="Backup of good")).to_have_count(0)
    expect(page.get_by_role("link", name="Backup of bad")).to_have_count(1)
    page.wait_for_url("**/history/?*result=failed*")
    page.go_back()
    expect(page.get_by_role("link", name="Backup of good")).to_have_count(1)


def test_the_keyboard_opens_a_day(open_page, transactional_db, people):
    JobFactory(vm=VmFactory(name="good"), state="succeeded")
    page: Page = open_page(width=390)
    sign_in(page, "root")
    page.goto("/history/calendar/")
    day = page.get_by_role("link", name="1 succeeded")
    day.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/history/?*since=*")
    expect(page.get_by_role("link", name="Backup of good")).to_have_count(1)
