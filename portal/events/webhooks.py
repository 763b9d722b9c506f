# SPDX-License-Identifier: GPL-3.0-or-later
"""Adding and changing webhooks, and sending again. The only gate and the only writer; every change is audited.

Admins of a team manage their team's webhooks, platform admins all of them; only they may let one into private
networks or without TLS.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import transaction
from django.utils import timezone

from portal import addresses
from portal.accounts.models import Membership, Team
from portal.accounts.roles import Role
from portal.addresses import Policy
from portal.audit import services as audit
from portal.errors import NotAllowed, PortalError
from portal.events import delivering, services, signing
from portal.events.models import Delivery, DeliveryState, Webhook


class NothingToSendAgain(PortalError):
    """The delivery is still to be sent anyway."""


def may_manage(actor: Any, team: Team | None) -> bool:
    """Whether the person may manage webhooks of that team, or with None those of the whole portal."""
    if actor.is_platform_admin:
        return True
    if team is None or not actor.is_active:
        return False
    return Membership.objects.filter(team=team, user=actor, role=Role.ADMIN).exists()


def manages_any(actor: Any) -> bool:
    """Whether there can be a webhook that the person manages."""
    if actor.is_platform_admin:
        return True
    return bool(actor.is_active and Membership.objects.filter(user=actor, role=Role.ADMIN).exists())


def add_webhook(
    *,
    actor: Any,
    name: str,
    url: str,
    kinds: Sequence[str],
    team: Team | None,
    allow_private: bool = False,
    allow_http: bool = False,
    via: str = "page",
) -> tuple[Webhook, str]:
    """The webhook and its secret, which is not shown again. Raises NotAllowed, AddressRefused."""
    _require(actor, team)
    _require_inside(actor, allow_private or allow_http)
    addresses.parsed(url, Policy(private=allow_private, http=allow_http))
    secret = signing.new_secret()
    with transaction.atomic():
        webhook = Webhook(
            name=name,
            url=url,
            kinds=list(kinds),
            team=team,
            allow_private=allow_private,
            allow_http=allow_http,
            seen_sequence=delivering.newest_sequence(),
            created_by_name=actor.get_username(),
        )
        webhook.set_secret(secret)
        webhook.save()
        audit.record("webhook.add", actor=actor, subject=webhook, via=via, **_facts(webhook))
    return webhook, secret


def change_webhook(
    *,
    actor: Any,
    webhook: Webhook,
    name: str,
    url: str,
    kinds: Sequence[str],
    allow_private: bool,
    allow_http: bool,
    via: str = "page",
) -> None:
    """Raises NotAllowed, AddressRefused. Leave for inside addresses, once given, stays when a team admin changes more."""
    _require(actor, webhook.team)
    more = (allow_private and not webhook.allow_private) or (allow_http and not webhook.allow_http)
    moved = url != webhook.url and (allow_private or allow_http)
    _require_inside(actor, more or moved)
    addresses.parsed(url, Policy(private=allow_private, http=allow_http))
    before = _facts(webhook)
    with transaction.atomic():
        webhook.name, webhook.url, webhook.kinds = name, url, list(kinds)
        webhook.allow_private, webhook.allow_http = allow_private, allow_http
        webhook.save(update_fields=["name", "url", "kinds", "allow_private", "allow_http"])
        audit.record(
            "webhook.change", actor=actor, subject=webhook, via=via, before=before, after=_facts(webhook)
        )


def rotate_secret(*, actor: Any, webhook: Webhook, via: str = "page") -> str:
    """A new secret, which is not shown again; the old one signs as well for a day. Raises NotAllowed."""
    _require(actor, webhook.team)
    secret = signing.new_secret()
    with transaction.atomic():
        webhook.set_secret(secret)
        webhook.save(update_fields=["secret_token", "old_secret_token", "secret_changed_at"])
        audit.record("webhook.rotate_secret", actor=actor, subject=webhook, via=via)
    return secret


def switch(*, actor: Any, webhook: Webhook, enabled: bool, via: str = "page") -> None:
    """Off: what is still to be sent is not sent. On: from the next event on. Raises NotAllowed. Safe to repeat."""
    _require(actor, webhook.team)
    with transaction.atomic():
        changed = Webhook.objects.filter(pk=webhook.pk, enabled=not enabled).update(
            enabled=enabled,
            seen_sequence=delivering.newest_sequence(),
            failures_in_a_row=0,
            quiet_until=None,
        )
        if not changed:
            return
        if not enabled:
            webhook.deliveries.filter(state=DeliveryState.PENDING).update(
                state=DeliveryState.DROPPED, problem="The webhook was switched off.", ended_at=timezone.now()
            )
        audit.record(
            "webhook.switch",
            actor=actor,
            subject=webhook,
            via=via,
            before={"enabled": not enabled},
            after={"enabled": enabled},
        )
    webhook.refresh_from_db()


def remove(*, actor: Any, webhook: Webhook, via: str = "page") -> None:
    """With its deliveries; what was done stays in the history. Raises NotAllowed."""
    _require(actor, webhook.team)
    with transaction.atomic():
        audit.record("webhook.remove", actor=actor, subject=webhook, via=via, **_facts(webhook))
        webhook.delete()


def ping(*, actor: Any, webhook: Webhook, via: str = "page") -> Delivery:
    """Order a test delivery, sent at once. Raises NotAllowed, or NothingToSendAgain if the webhook is off."""
    _require(actor, webhook.team)
    _require_on(webhook)
    with transaction.atomic():
        delivery = Delivery.objects.create(webhook=webhook, give_up_at=timezone.now())
        audit.record("webhook.ping", actor=actor, subject=webhook, via=via)
        _at_once(webhook)
    return delivery


def send_again(*, actor: Any, delivery: Delivery, via: str = "page") -> None:
    """Order the same delivery, under the same id, once more. Raises NotAllowed, NothingToSendAgain."""
    webhook = delivery.webhook
    _require(actor, webhook.team)
    _require_on(webhook)
    with transaction.atomic():
        ended = Delivery.objects.filter(pk=delivery.pk).exclude(state=DeliveryState.PENDING)
        if not ended.update(**_fresh()):
            raise NothingToSendAgain("This delivery is still to be sent anyway; nothing was changed.")
        audit.record("webhook.send_again", actor=actor, subject=webhook, via=via, delivery=str(delivery.uuid))
        _at_once(webhook)


def send_failed_again(*, actor: Any, webhook: Webhook, via: str = "page") -> int:
    """Order all deliveries that were given up once more. Returns how many. Raises NotAllowed, NothingToSendAgain."""
    _require(actor, webhook.team)
    _require_on(webhook)
    with transaction.atomic():
        count = webhook.deliveries.given_up().update(**_fresh())
        if count:
            audit.record("webhook.send_again", actor=actor, subject=webhook, via=via, deliveries=count)
            _at_once(webhook)
    return count


def leave_failed(*, actor: Any, webhook: Webhook, via: str = "page") -> int:
    """Somebody has seen to the deliveries that were given up; they are not sent. Returns how many."""
    _require(actor, webhook.team)
    with transaction.atomic():
        count = webhook.deliveries.given_up().update(state=DeliveryState.DROPPED)
        if count:
            audit.record("webhook.leave_failed", actor=actor, subject=webhook, via=via, deliveries=count)
    return count


def _fresh() -> dict[str, Any]:
    return {
        "state": DeliveryState.PENDING,
        "next_at": timezone.now(),
        "give_up_at": delivering.give_up_time(),
        "problem": "",
        "ended_at": None,
    }


def _at_once(webhook: Webhook) -> None:
    Webhook.objects.filter(pk=webhook.pk).update(quiet_until=None)
    transaction.on_commit(services.ring)


def _facts(webhook: Webhook) -> dict[str, Any]:
    return {
        "name": webhook.name,
        "url": webhook.url,
        "kinds": webhook.kinds,
        "team": webhook.team.name if webhook.team else None,
        "allow_private": webhook.allow_private,
        "allow_http": webhook.allow_http,
    }


def _require(actor: Any, team: Team | None) -> None:
    if not may_manage(actor, team):
        raise NotAllowed(
            "Only admins of the team, or platform admins, manage its webhooks; nothing was changed."
        )


def _require_inside(actor: Any, asked: bool) -> None:
    if asked and not actor.is_platform_admin:
        raise NotAllowed(
            "Only a platform admin may let a webhook into private networks or without TLS; nothing was changed."
        )


def _require_on(webhook: Webhook) -> None:
    if not webhook.enabled:
        raise NothingToSendAgain("The webhook is switched off; nothing was sent.", hint="Switch it on first.")
