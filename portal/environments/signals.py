# SPDX-License-Identifier: GPL-3.0-or-later
"""What follows from a sign-in for the machines of Managers."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.signals import user_logged_in
from django.dispatch import receiver

from portal.accounts.models import User
from portal.environments.people import person_came_in


@receiver(user_logged_in)
def own_what_is_theirs(user: User, **_: Any) -> None:
    """Before the first page, which would say that nothing is theirs yet."""
    person_came_in(user)
