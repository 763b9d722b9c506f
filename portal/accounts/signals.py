# SPDX-License-Identifier: GPL-3.0-or-later
"""What allauth reports, written into the history."""

from __future__ import annotations

from typing import Any

from allauth.account.adapter import get_adapter
from allauth.account.internal.flows.login import get_authentication_records
from allauth.account.signals import user_logged_in, user_signed_up
from allauth.mfa.signals import (
    authentication_failed,
    authenticator_added,
    authenticator_removed,
    authenticator_reset,
)
from allauth.socialaccount.signals import social_account_added
from django.db.models.signals import post_save
from django.dispatch import receiver

from portal.accounts import devices, sessions
from portal.accounts.models import User
from portal.audit import services as audit


@receiver(user_logged_in)
def note_login(request: Any, user: Any, response: Any, **_: Any) -> None:
    devices.remember(response, user.get_username())
    used = [record.get("type") or record["method"] for record in get_authentication_records(request, user)]
    audit.record("login", actor=user, address=get_adapter(request).get_client_ip(request), methods=used)


@receiver(user_signed_up)
def note_new_person(request: Any, user: Any, **_: Any) -> None:
    """Nobody signs up here by themselves: another system vouched for them."""
    audit.record(
        "person.add",
        actor=None,
        via="oidc",
        subject=user,
        address=get_adapter(request).get_client_ip(request),
    )


@receiver(social_account_added)
def note_connected(request: Any, sociallogin: Any, **_: Any) -> None:
    audit.record(
        "company.connect",
        actor=sociallogin.user,
        subject=sociallogin.user,
        address=get_adapter(request).get_client_ip(request),
        uid=sociallogin.account.uid[:200],
    )


@receiver(authenticator_added)
def note_added(**kwargs: Any) -> None:
    _note_second_step("second_step.add", **kwargs)


@receiver(authenticator_removed)
def note_removed(**kwargs: Any) -> None:
    _note_second_step("second_step.remove", **kwargs)


@receiver(authenticator_reset)
def note_reset(**kwargs: Any) -> None:
    _note_second_step("second_step.renew", **kwargs)


@receiver(authentication_failed)
def note_wrong_code(request: Any, user: Any, reauthentication: bool = False, **_: Any) -> None:
    audit.record(
        "login.refused",
        actor=None,
        address=get_adapter(request).get_client_ip(request),
        username=user.get_username(),
        step="confirm" if reauthentication else "code",
    )


def _note_second_step(action: str, *, request: Any, user: Any, authenticator: Any, **_: Any) -> None:
    audit.record(
        action,
        actor=user,
        subject=user,
        address=get_adapter(request).get_client_ip(request),
        kind=authenticator.type,
        name=str(authenticator),
    )


@receiver(post_save, sender=User)
def end_sessions_of_the_switched_off(instance: User, created: bool, **_: Any) -> None:
    """They are refused at the next request anyhow; this takes them off the list as well."""
    if not created and not instance.is_active:
        sessions.end_all(instance, actor=None)
