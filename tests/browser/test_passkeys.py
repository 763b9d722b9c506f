# SPDX-License-Identifier: GPL-3.0-or-later
"""Passkeys in a real browser, with Chromium's virtual authenticator over its own protocol."""

import re

import pytest
from allauth.mfa.models import Authenticator
from playwright.sync_api import CDPSession, Page, expect

from portal.audit.models import AuditEntry
from tests.browser.conftest import keep_screenshot, sign_in

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def give_key(page: Page, *, verified: bool = True) -> tuple[CDPSession, str]:
    """A security key plugged into this page's browser; it presses its own button."""
    session = page.context.new_cdp_session(page)
    session.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": verified,
        "automaticPresenceSimulation": True,
    }
    return session, session.send("WebAuthn.addVirtualAuthenticator", {"options": options})["authenticatorId"]


def add_passkey(page: Page, name: str, *, alone: bool) -> None:
    page.goto("/settings/two-step/passkeys/add/")
    if page.get_by_label("Password").count():
        page.get_by_label("Password").fill("correct horse")
        page.get_by_role("button", name="Go on").click()
    page.get_by_role("textbox", name="Name").fill(name)
    page.get_by_label("enough by itself").set_checked(alone)
    keep_screenshot(page, f"passkey-add-{page.viewport_size['width']}")
    page.get_by_role("button", name="Add the passkey").click()
    page.wait_for_url("**/codes/")


def sign_out(page: Page) -> None:
    page.get_by_label(re.compile("^You:")).click()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/login/")


def test_a_passkey_alone_signs_in_and_can_be_removed(open_page, people):
    page: Page = open_page()
    give_key(page)
    sign_in(page, "alice")
    add_passkey(page, "Work laptop", alone=True)
    keep_screenshot(page, "recovery-codes-1280")
    sign_out(page)
    page.goto("/login/?next=/jobs/")
    page.get_by_role("button", name="Use a passkey").click()
    page.wait_for_url(lambda url: url.endswith("/jobs/") and "login" not in url)
    assert AuditEntry.objects.filter(action="login").latest("id").data == {"methods": ["webauthn"]}
    page.goto("/settings/two-step/")
    row = page.get_by_role("listitem").filter(has_text="Work laptop")
    expect(row).to_contain_text("Enough by itself")
    row.get_by_role("link", name="Rename").click()
    page.get_by_label("Password").fill("correct horse")
    page.get_by_role("button", name="Go on").click()
    page.get_by_role("textbox", name="Name").fill("Old laptop")
    page.get_by_role("button", name="Rename").click()
    page.get_by_role("listitem").filter(has_text="Old laptop").get_by_role("link", name="Remove").click()
    page.get_by_role("button", name="Remove the passkey").click()
    page.wait_for_url("**/two-step/")
    assert not Authenticator.objects.exists()
    sign_out(page)
    page.get_by_role("button", name="Use a passkey").click()
    page.wait_for_url("**/login/")
    expect(page.get_by_text("This passkey is not known here")).to_be_visible()
    assert AuditEntry.objects.filter(action="login.refused", data__step="passkey").count() == 1


def test_a_passkey_as_second_step(open_page, people):
    page: Page = open_page(width=390)
    give_key(page)
    sign_in(page, "alice")
    add_passkey(page, "Key on my ring", alone=False)
    page.goto("/")
    page.context.clear_cookies()
    page.goto("/login/?next=/jobs/")
    page.get_by_label("Username").fill("alice")
    page.get_by_label("Password").fill("correct horse")
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_url("**/login/second/")
    keep_screenshot(page, "second-step-390")
    page.get_by_role("button", name="Use a passkey").click()
    page.wait_for_url(lambda url: url.endswith("/jobs/") and "login" not in url)
    assert AuditEntry.objects.filter(action="login").latest("id").data == {
        "methods": ["password", "webauthn"]
    }


def test_without_a_key_the_page_says_what_happened(open_page, people):
    page: Page = open_page()
    session, key = give_key(page)
    session.send("WebAuthn.setUserVerified", {"authenticatorId": key, "isUserVerified": False})
    page.goto("/login/")
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.get_by_role("alert")).to_contain_text("No passkey was given")
    expect(page.get_by_role("button", name="Use a passkey")).to_be_enabled()
    sign_in(page, "alice")


def test_the_key_of_another_is_no_second_step(open_page, people):
    page: Page = open_page()
    give_key(page)
    sign_in(page, "bob")
    add_passkey(page, "Bob's", alone=True)
    alices = Authenticator.objects.get(type="webauthn")
    Authenticator.objects.create(user=people.alice, type="totp", data={"secret": "none"})
    sign_out(page)
    page.get_by_label("Username").fill("alice")
    page.get_by_label("Password").fill("correct horse")
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_url("**/login/second/")
    expect(page.get_by_role("button", name="Use a passkey")).to_have_count(0)
    assert alices.user == people.bob
