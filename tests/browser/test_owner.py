# SPDX-License-Identifier: GPL-3.0-or-later
"""An owner with no other right restores a machine: three screens, by keyboard, on a phone; nothing else is theirs."""

import pytest
from playwright.sync_api import Page, expect

from portal.environments.models import VirtualMachine, VmGrant
from portal.environments.people import set_identity
from restores.models import Restore
from tests.browser.conftest import keep_screenshot, sign_in
from tests.factories import UserFactory
from tests.flows import support
from tests.flows.support import back_up

pytestmark = [pytest.mark.browser, pytest.mark.lab, pytest.mark.flow]
A_LONG_TIME = 120_000


def tab_to(page: Page, words: str) -> None:
    """Press Tab until the element with this text has the focus."""
    for _ in range(80):
        page.keyboard.press("Tab")
        text = page.evaluate("document.activeElement.textContent")
        if " ".join(text.split()) == words:
            return
    raise AssertionError(f"Tab never reaches {words!r}")


def test_an_owner_restores_a_machine_with_no_other_right(
    open_page, environment, repository, workers, people
) -> None:
    oscar = UserFactory(username="oscar")
    principal = "oscar@internal-authz"
    set_identity(actor=people.root, environment=environment, principal=principal, user=oscar)
    web = environment.vms.get(name="web-01")
    back_up(people.bob, web)
    web.teams.clear()
    page: Page = open_page(width=390)
    sign_in(page, "oscar")

    # First screen: my machines, what is known of them in words.
    page.wait_for_url("**/mine/")
    expect(page.get_by_role("heading", level=1)).to_have_text("My machines")
    # Other tests may have left copies of it on the lab's Manager, which then are this owner's too.
    mine = sorted(VirtualMachine.objects.visible_to(oscar).values_list("name", flat=True))
    assert "web-01" in mine
    expect(page.get_by_role("heading", level=2)).to_have_text(mine)
    expect(page.get_by_text("Last good restore point: today")).to_be_visible()
    expect(page.get_by_text("because the Manager names you its owner")).to_be_visible()
    keep_screenshot(page, "owner-1-mine")
    tab_to(page, "Restore web-01")
    page.keyboard.press("Enter")

    # Second screen: the plan in words.
    page.wait_for_url("**/restore/")
    made = page.locator(".plan-made")
    expect(made).to_contain_text("The machine web-01-restored")
    expect(made).to_contain_text("Oscar Olsen (oscar@internal-authz) as UserVmManager")
    keep_screenshot(page, "owner-2-plan")
    tab_to(page, "Restore as new machine")
    page.keyboard.press("Enter")

    # Third screen: live, to its end.
    page.wait_for_url("**/jobs/*/")
    keep_screenshot(page, "owner-3-running")
    expect(page.get_by_text("web-01-restored is on the Manager")).to_be_visible(timeout=A_LONG_TIME)
    keep_screenshot(page, "owner-4-end")
    restore = Restore.objects.get()
    try:
        assert restore.proven_at is not None
        tab_to(page, "See web-01-restored")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text("web-01-restored")
        page.get_by_role("link", name="My machines").first.click()
        expect(page.get_by_role("heading", level=2)).to_have_text(sorted([*mine, "web-01-restored"]))
        keep_screenshot(page, "owner-5-both")
        page.get_by_role("link", name="Restores").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("My restores")
        assert page.get_by_role("row").count() == 2
        sources = set(VmGrant.objects.filter(user=oscar).values_list("vm__name", "source"))
        assert sources == {(name, "manager") for name in (*mine, "web-01-restored")}
        for name in ("db-01", "files-01"):
            other = environment.vms.get(name=name)
            answer = page.goto(other.get_absolute_url())
            assert answer is not None and answer.status == 404
    finally:
        support.remove_vm(environment, str(restore.new_vm_id))
