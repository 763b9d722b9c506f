# SPDX-License-Identifier: GPL-3.0-or-later
"""Making, checking and revoking tokens, and the service accounts that own some of them."""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from portal.accounts.models import Team
from portal.api.errors import (
    TokenExpired,
    TokenNotForThis,
    TokenOwnerRemoved,
    TokenRefused,
    TokenRevoked,
    TokenUnknown,
    TokenWrongNetwork,
)
from portal.api.models import ApiToken
from portal.api.scopes import Scope
from portal.audit import services as audit
from portal.errors import NotAllowed

if TYPE_CHECKING:
    from portal.accounts.models import User

MARK = "obp"
# The last use is written down at most this often, so that reading does not become writing.
SEEN_EVERY = dt.timedelta(minutes=1)


def create_token(
    *,
    actor: User,
    owner: User,
    name: str,
    scopes: Sequence[str],
    team: Team | None = None,
    networks: Sequence[str] = (),
    expires_at: dt.datetime | None = None,
    via: str = "page",
) -> tuple[ApiToken, str]:
    """The token and its text, which is to be had this once only.

    Raises NotAllowed (another person's, or a service account's by anyone but a platform admin), TokenNotForThis
    (no scope, a network that is none, an expiry that has passed, a team that the owner is not in).
    """
    _require_owner_or_admin(actor, owner)
    _require_sense(owner, scopes, team, expires_at)
    secret = secrets.token_urlsafe(32)
    with transaction.atomic():
        token = ApiToken.objects.create(
            user=owner,
            name=name,
            prefix=secrets.token_hex(6),
            secret_sha256=_digest(secret),
            scopes=[scope for scope in Scope.values if scope in scopes],
            team=team,
            networks=checked_networks(networks),
            expires_at=expires_at,
            created_by_name=actor.get_username(),
        )
        audit.record("token.create", actor=actor, subject=token, via=via, **_facts(token))
    return token, f"{MARK}_{token.prefix}_{secret}"


def revoke_token(*, actor: User, token: ApiToken, via: str = "page") -> None:
    """From the next request on it is refused. Raises NotAllowed. Safe to repeat."""
    _require_owner_or_admin(actor, token.user)
    with transaction.atomic():
        revoked = ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(
            revoked_at=timezone.now(), revoked_by_name=actor.get_username()
        )
        if revoked:
            audit.record("token.revoke", actor=actor, subject=token, via=via, **_facts(token))
    token.refresh_from_db()


def authenticate(text: str, *, address: str) -> ApiToken:
    """The token of that text with its owner, whose `limits` are set.

    Raises TokenUnknown; for who holds the right secret also TokenRevoked, TokenExpired, TokenOwnerRemoved and
    TokenWrongNetwork.
    """
    mark, _, rest = text.partition("_")
    prefix, _, secret = rest.partition("_")
    if mark != MARK or not prefix or not secret or not text.isascii():
        raise TokenUnknown("This is no token of this portal.", hint=_ASK)
    token = ApiToken.objects.filter(prefix=prefix[:16]).select_related("user", "team").first()
    if not constant_time_compare(_digest(secret), token.secret_sha256 if token else ""):
        raise TokenUnknown("This is no token of this portal.", hint=_ASK)
    assert token is not None  # nothing hashes to an empty text
    if refusal := _why_not(token, address):
        raise refusal
    _note_use(token, address)
    token.user.limits = token.limits
    return token


def checked_networks(given: Sequence[str]) -> list[str]:
    """`10.0.0.0/8`, `192.0.2.7` or IPv6, in the usual form. Raises TokenNotForThis for anything else."""
    found = []
    for text in given:
        try:
            found.append(str(ipaddress.ip_network(text.strip(), strict=False)))
        except ValueError:
            raise TokenNotForThis(
                f"{text.strip()[:60]} is no network. Nothing was made.",
                hint="Like 192.0.2.0/24 or 192.0.2.7.",
            ) from None
    return found


_ASK = "Make a new one under Settings, or ask whoever looks after the service account."


def _why_not(token: ApiToken, address: str) -> TokenRefused | None:
    if not token.user.is_active:
        return TokenOwnerRemoved("The account that this token belongs to was removed.")
    if token.revoked_at is not None:
        return TokenRevoked(f"This token was revoked by {token.revoked_by_name}.", hint=_ASK)
    if token.is_expired:
        return TokenExpired("This token has expired.", hint=_ASK)
    if not token.admits(address):
        return TokenWrongNetwork(
            f"This token may not be used from {address}.", hint="It is good for other networks only."
        )
    return None


def _note_use(token: ApiToken, address: str) -> None:
    now = timezone.now()
    if token.last_used_at is not None and now - token.last_used_at < SEEN_EVERY:
        return
    stale = Q(last_used_at=None) | Q(last_used_at__lt=now - SEEN_EVERY)
    ApiToken.objects.filter(stale, pk=token.pk).update(last_used_at=now, last_used_from=address or None)


def _require_owner_or_admin(actor: User, owner: User) -> None:
    if owner.is_service:
        if not actor.is_platform_admin:
            raise NotAllowed(
                "Only platform admins manage the tokens of service accounts; nothing was changed."
            )
    elif owner.pk != actor.pk:
        raise NotAllowed(
            "A token acts as its owner, so only the owner makes and revokes it; nothing was changed."
        )


def _require_sense(
    owner: User, scopes: Sequence[str], team: Team | None, expires_at: dt.datetime | None
) -> None:
    if not scopes or set(scopes) - set(Scope.values):
        raise TokenNotForThis("A token needs at least one of the known scopes. Nothing was made.")
    if expires_at is not None and expires_at <= timezone.now():
        raise TokenNotForThis("The expiry lies in the past. Nothing was made.")
    if team is not None and not owner.memberships.filter(team=team).exists():
        raise TokenNotForThis(
            f"{owner.get_username()} is not in {team.name}, so the token would reach nothing. Nothing was made."
        )


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _facts(token: ApiToken) -> dict[str, Any]:
    return {
        "owner": token.user.get_username(),
        "scopes": token.scopes,
        "team": token.team.name if token.team else "",
        "networks": token.networks,
        "expires_at": token.expires_at.isoformat() if token.expires_at else "",
        "prefix": token.prefix,
    }
