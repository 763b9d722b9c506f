# SPDX-License-Identifier: GPL-3.0-or-later
"""How often signing in may be tried. Counted in the database, so over all workers, and before anything is hashed.

Three counters, each over a window that begins with its first attempt and is not made longer by later ones:

- `address`: wrong attempts from one address (IPv6: one /64), whatever name is tried;
- `name`: wrong attempts for one name, from wherever they come;
- `device`: wrong attempts of a device on which this person has signed in before. It counts instead of the other
  two, so that strangers who use up a name's attempts do not lock its person out (OWASP, device cookies).

A right password gives its attempt back. Names that nobody has are counted like the others.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
import unicodedata
from dataclasses import dataclass

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from portal.accounts.models import AttemptCounter

IPV6_PREFIX = 64


@dataclass(frozen=True)
class Limit:
    name: str
    attempts: int
    window: dt.timedelta


LIMITS = {
    limit.name: limit
    for limit in (
        Limit("address", 20, dt.timedelta(minutes=5)),
        Limit("name", 20, dt.timedelta(minutes=15)),
        Limit("device", 10, dt.timedelta(minutes=5)),
        Limit("password", 10, dt.timedelta(minutes=5)),
    )
}


@dataclass(frozen=True)
class Refusal:
    """`first` in this window: the one that is written down. `wait` until the window ends."""

    limit: str
    wait: dt.timedelta
    first: bool


@dataclass(frozen=True)
class Attempt:
    """Counted, and given back if it turns out to be right."""

    keys: tuple[str, ...]

    def give_back(self) -> None:
        AttemptCounter.objects.filter(key__in=self.keys, count__gt=0).update(count=F("count") - 1)


def start(*, address: str, name: str, device: str | None) -> Attempt | Refusal:
    """Counts one attempt to sign in, or refuses it. `device` is the number of a known device (devices.py)."""
    if device is not None:
        return _count({"device": f"{device} {folded(name)}"})
    return _count({"address": network_of(address), "name": folded(name)})


def start_with_password(person_id: int) -> Attempt | Refusal:
    """Counts one try of somebody's own password by whoever sits at their session."""
    return _count({"password": str(person_id)})


def forget(name: str) -> int:
    """Takes back all attempts for a name; returns 0 if none were counted."""
    deleted, _ = AttemptCounter.objects.filter(key=_key("name", folded(name)), count__gt=0).delete()
    return deleted


def folded(name: str) -> str:
    """One counter for all spellings of a name that people would take for the same."""
    return unicodedata.normalize("NFKC", name).strip().casefold()


def network_of(address: str) -> str:
    """The address, or its /64 for IPv6: whoever has one address there has all of them."""
    found = ipaddress.ip_address(address)
    if found.version == 4:
        return address
    return str(ipaddress.ip_network((found, IPV6_PREFIX), strict=False))


def _key(limit: str, subject: str) -> str:
    return hashlib.sha256(f"{limit} {subject}".encode()).hexdigest()


def _count(subjects: dict[str, str]) -> Attempt | Refusal:
    keys: list[str] = []
    for name, subject in subjects.items():
        key = _key(name, subject)
        if refusal := _count_one(LIMITS[name], key):
            # What refuses is counted; what had let it pass is not used up by it.
            Attempt(tuple(keys)).give_back()
            return refusal
        keys.append(key)
    return Attempt(tuple(keys))


def _count_one(limit: Limit, key: str) -> Refusal | None:
    now = timezone.now()
    with transaction.atomic():
        counter, made = AttemptCounter.objects.select_for_update().get_or_create(
            key=key, defaults={"until": now + limit.window}
        )
        if counter.until <= now:
            counter.count, counter.until = 0, now + limit.window
        counter.count += 1
        counter.save(update_fields=["count", "until"])
        if made:
            _drop_ended(now)
    if counter.count <= limit.attempts:
        return None
    return Refusal(limit.name, counter.until - now, first=counter.count == limit.attempts + 1)


def _drop_ended(now: dt.datetime) -> None:
    """Rows that others hold are left for the next time, so that nobody waits for anybody."""
    ended = AttemptCounter.objects.filter(until__lt=now).select_for_update(skip_locked=True)[:1000]
    AttemptCounter.objects.filter(key__in=[counter.key for counter in ended]).delete()
