# SPDX-License-Identifier: GPL-3.0-or-later
"""Signatures of webhook requests: HMAC-SHA256 over the timestamp, a dot and the body (docs/webhooks.md)."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence


def new_secret() -> str:
    return f"whsec_{secrets.token_urlsafe(32)}"


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """`v1=` and 64 hexadecimal digits."""
    signed = timestamp.encode() + b"." + body
    return f"v1={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}"


def signatures(given: Sequence[str], timestamp: str, body: bytes) -> str:
    """One for each secret, separated by commas: after a change of secret the old one signs on for a while."""
    return ",".join(signature(secret, timestamp, body) for secret in given)
