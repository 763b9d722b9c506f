# SPDX-License-Identifier: GPL-3.0-or-later
"""Who a name and a password belong to."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.backends import ModelBackend


class PasswordBackend(ModelBackend):
    """Passwords kept here. Whoever was switched off, and programs, are refused like a wrong password."""

    def user_can_authenticate(self, user: Any) -> bool:
        return user is not None and user.is_active and not user.is_service
