# SPDX-License-Identifier: GPL-3.0-or-later
"""How often one may ask: counted for each token (or person), across all web processes by the shared cache.

Fixed windows of a minute. Every answer says what is left, in the fields of the IETF draft "RateLimit header fields
for HTTP" (`RateLimit-Policy`, `RateLimit`); a refusal says in Retry-After when to come again. A cache that cannot be
reached refuses nobody: counting is not worth a standstill.
"""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass

from django.conf import settings
from django.core.cache import cache

from portal.api.errors import TooManyRequests

log = logging.getLogger(__name__)

WINDOW = 60


@dataclass(frozen=True)
class Quota:
    """`limit` requests in a window, `left` of them, and the seconds until the next window."""

    name: str
    limit: int
    left: int
    seconds: int

    @property
    def headers(self) -> dict[str, str]:
        return {
            "RateLimit-Policy": f'"{self.name}";q={self.limit};w={WINDOW}',
            "RateLimit": f'"{self.name}";r={self.left};t={self.seconds}',
        }


def use(who: str, *, name: str, limit: int) -> Quota:
    """Count one request of `who` (an identity, never a secret), or raise TooManyRequests."""
    window, gone = divmod(time.time(), WINDOW)
    used = _increment(_key(name, who, window))
    quota = Quota(name, limit, max(0, limit - used), max(1, round(WINDOW - gone)))
    if used > limit:
        raise _too_many(quota)
    return quota


def refuse_guessing(address: str) -> None:
    """Raises TooManyRequests for an address that has come with too many wrong tokens in this minute."""
    window, gone = divmod(time.time(), WINDOW)
    if _read(_key("wrong-tokens", address, window)) >= settings.API_WRONG_TOKENS:
        raise _too_many(Quota("wrong-tokens", settings.API_WRONG_TOKENS, 0, max(1, round(WINDOW - gone))))


def count_wrong_token(address: str) -> None:
    _increment(_key("wrong-tokens", address, time.time() // WINDOW))


def _too_many(quota: Quota) -> TooManyRequests:
    error = TooManyRequests(
        f"More than {quota.limit} requests in a minute; this one was not looked at.",
        hint=f"Come again in {quota.seconds} seconds.",
        wait=quota.seconds,
    )
    return error


def _key(name: str, who: str, window: float) -> str:
    return f"api-rate:{name}:{hashlib.sha256(who.encode()).hexdigest()[:32]}:{int(window)}"


def _increment(key: str) -> int:
    try:
        if cache.add(key, 1, 2 * WINDOW):
            return 1
        return cache.incr(key)
    except ValueError:  # it expired in between
        return 1
    except Exception:
        log.warning("The cache cannot be reached, so requests are not counted.", exc_info=True)
        return 0


def _read(key: str) -> int:
    try:
        return int(cache.get(key, 0))
    except Exception:
        log.warning("The cache cannot be reached, so requests are not counted.", exc_info=True)
        return 0
