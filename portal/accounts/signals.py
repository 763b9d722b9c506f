# SPDX-License-Identifier: GPL-3.0-or-later
"""What allauth reports, written into the history."""

from __future__ import annotations

from typing import Any

from allauth.account.adapter import get_adapter
from allauth.account.internal.flows.login import get_authentication_records
from allauth.account.signals import user_logged_in
from django.dispatch import receiver

from portal.accounts import devices
from portal.audit import services as audit


@receiver(user_logged_in)
def note_login(request: Any, user: Any, response: Any, **_: Any) -> None:
    devices.remember(response, user.get_username())
    used = [record.get("type") or record["method"] for record in get_authentication_records(request, user)]
    audit.record("login", actor=user, address=get_adapter(request).get_client_ip(request), methods=used)
