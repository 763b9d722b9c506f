# SPDX-License-Identifier: GPL-3.0-or-later
"""axe-core finds nothing on any page, in both themes; run by `make axe`."""

from importlib import resources

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import sign_in
from tests.browser.test_every_page import pages  # noqa: F401  the same addresses

pytestmark = [pytest.mark.browser, pytest.mark.slow]

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing(open_page, pages, people, dark):  # noqa: F811
    axe = resources.files("axe_playwright_python").joinpath("axe.min.js").read_text()
    people.root.is_staff = True
    people.root.save()
    page: Page = open_page(dark=dark)
    sign_in(page, "root")
    found = {}
    for name, address in {**pages, "styleguide": "/styleguide/"}.items():
        page.goto(address)
        page.evaluate(axe)
        result = page.evaluate("rules => axe.run(document, {runOnly: rules})", RULES)
        assert result["passes"], f"axe looked at nothing on {name}"
        found[name] = [
            (violation["id"], node["html"][:200])
            for violation in result["violations"]
            for node in violation["nodes"]
        ]
    assert found == {name: [] for name in found}
