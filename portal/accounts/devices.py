# SPDX-License-Identifier: GPL-3.0-or-later
"""Browsers in which a person has signed in before, known by a signed cookie.

It opens nothing: it only moves wrong attempts from the counters that strangers can fill to one of its own
(attempts.py). Kept for one person, the last who signed in there.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets

from django.conf import settings
from django.core import signing
from django.http import HttpRequest, HttpResponseBase

from portal.accounts.attempts import folded

COOKIE = "known_device"
KEPT = dt.timedelta(days=180)
_SALT = "portal.accounts.devices"


def remember(response: HttpResponseBase, name: str) -> None:
    value = signing.dumps([_fingerprint(name), secrets.token_hex(16)], salt=_SALT)
    response.set_cookie(
        COOKIE, value, max_age=KEPT, httponly=True, samesite="Lax", secure=settings.SESSION_COOKIE_SECURE
    )


def known(request: HttpRequest, name: str) -> str | None:
    """The number of this device if this person has signed in here, else None."""
    try:
        fingerprint, number = signing.loads(request.COOKIES.get(COOKIE, ""), salt=_SALT, max_age=KEPT)
    except (signing.BadSignature, ValueError):
        return None
    return str(number) if secrets.compare_digest(fingerprint, _fingerprint(name)) else None


def _fingerprint(name: str) -> str:
    return hashlib.sha256(folded(name).encode()).hexdigest()
