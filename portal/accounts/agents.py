# SPDX-License-Identifier: GPL-3.0-or-later
"""A browser's own description in two words: what a person recognises their devices by. Anybody can send anything."""

from __future__ import annotations

# The first that occurs; those that name others as well (Edge says Chrome, Chrome says Safari) come first.
_BROWSERS = [
    ("Edg/", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
    ("curl/", "curl"),
]
_SYSTEMS = [
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
]


def described(user_agent: str) -> str:
    """`Firefox on Windows`; as much of it as can be told."""
    browser = _first(_BROWSERS, user_agent) or "A browser"
    system = _first(_SYSTEMS, user_agent)
    return f"{browser} on {system}" if system else browser


def _first(names: list[tuple[str, str]], user_agent: str) -> str | None:
    return next((name for sign, name in names if sign in user_agent), None)
