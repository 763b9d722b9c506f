# SPDX-License-Identifier: GPL-3.0-or-later
"""axe-core finds nothing on any page, in both themes; run by `make axe`."""

from importlib import resources

import pytest
from allauth.mfa.models import Authenticator
from playwright.sync_api import Page

from tests.browser.conftest import keep_screenshot, sign_in
from tests.browser.test_every_page import pages  # noqa: F401  the same addresses

pytestmark = [pytest.mark.browser, pytest.mark.slow]

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
AXE = resources.files("axe_playwright_python").joinpath("axe.min.js").read_text()


def violations(page: Page, name: str) -> list[tuple[str, str]]:
    """What axe-core finds on the page as it is now."""
    page.evaluate(AXE)
    result = page.evaluate("rules => axe.run(document, {runOnly: rules})", RULES)
    assert result["passes"], f"axe looked at nothing on {name}"
    return [(found["id"], node["html"][:200]) for found in result["violations"] for node in found["nodes"]]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing(open_page, pages, people, dark):  # noqa: F811
    people.root.is_staff = True
    people.root.save()
    page: Page = open_page(dark=dark)
    sign_in(page, "root")
    found = {}
    for name, address in {**pages, "styleguide": "/styleguide/"}.items():
        page.goto(address)
        found[name] = violations(page, name)
    assert found == {name: [] for name in found}


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_on_the_way_in(open_page, transactional_db, people, settings, dark, width):
    """Pages before anybody is known, and those that ask for the password again."""
    settings.OIDC_URL = "https://provider.example"
    page: Page = open_page(dark=dark, width=width)
    found = {}

    def look(name: str) -> None:
        keep_screenshot(page, f"{name}-{width}-{'dark' if dark else 'light'}")
        found[name] = violations(page, name)
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{name} is {wide} pixels too wide"

    for name, address in {
        "login": "/login/?next=/jobs/",
        "switched-off": "/login/switched-off/",
        "company-cancelled": "/login/company/cancelled/",
    }.items():
        page.goto(address)
        look(name)
    page.goto("/login/")
    page.get_by_label("Username").fill("alice")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.get_by_text("do not belong together").wait_for()
    look("login-refused")
    sign_in(page, "alice")
    for name in ("settings/company", "settings/two-step/app", "settings/two-step/passkeys/add"):
        page.goto(f"/{name}/")
        if "/confirm/" in page.url:
            page.get_by_label("Password").fill("correct horse")
            page.get_by_role("button", name="Go on").click()
            page.wait_for_url(f"**/{name}/")
        if name.endswith("/app"):
            assert page.get_by_role("img", name="QR code").bounding_box()["width"] > 150
        look(name.rpartition("/")[2] if "add" not in name else "passkey-add")
    Authenticator.objects.create(user=people.alice, type="totp", data={"secret": "none"})
    page.goto("/settings/two-step/app/remove/")
    look("app-remove")
    page.context.clear_cookies()
    page.goto("/login/")
    page.get_by_label("Username").fill("alice")
    page.get_by_label("Password").fill("correct horse")
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_url("**/login/second/")
    look("second-step")
    assert found == {name: [] for name in found}
