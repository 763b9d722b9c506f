# SPDX-License-Identifier: GPL-3.0-or-later
"""The account that lets the first person in."""

from __future__ import annotations

import secrets

from django.db import IntegrityError, transaction

from portal.accounts.models import User
from portal.audit import services as audit

NAME = "admin"
# Without letters and digits that look alike; 20 of 31 are 99 bits.
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"


def make_first_admin() -> str | None:
    """The random password of a new platform admin `admin`; None, and nothing made, if there is anybody already."""
    password = "-".join("".join(secrets.choice(_ALPHABET) for _ in range(5)) for _ in range(4))
    try:
        with transaction.atomic():
            if User.objects.exists():
                return None
            admin = User.objects.create_superuser(NAME, password=password)
            audit.record("person.add", actor=None, subject=admin, via="command", platform_admin=True)
    except IntegrityError:
        # Another process started at the same moment and was first.
        return None
    return password
