# SPDX-License-Identifier: GPL-3.0-or-later
"""`Idempotency-Key`: a write that is sent again is not done again.

The key's row is written in the transaction of the change itself: either both are there or neither. So a client that
got no answer (the network broke, the portal was killed between commit and answer) repeats the request and gets the
answer that it missed. The key is unique for each person: of two requests at once the second waits for the first.
Refusals are not kept: nothing was changed, and the same key may be used again.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import IntegrityError, OperationalError, connection, transaction
from django.utils import timezone
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from portal.api.errors import IdempotencyKeyBusy, IdempotencyKeyInvalid, IdempotencyKeyReused
from portal.api.models import KeptAnswer

if TYPE_CHECKING:
    from portal.accounts.models import User

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
# Seconds that a second request with the same key waits for the first, before it is told to come again.
_PATIENCE = 10
_KEY = re.compile(r"[\x21-\x7e]([\x20-\x7e]{0,253}[\x21-\x7e])?")


def once(request: Request, person: User, act: Callable[[], Response]) -> Response:
    """The answer of `act`, which is called in a transaction, or the one that was kept for this key.

    Raises IdempotencyKeyInvalid, IdempotencyKeyReused, IdempotencyKeyBusy, and whatever `act` raises; then nothing
    is kept.
    """
    key = request.headers.get(HEADER)
    if key is None:
        return act()
    if not _KEY.fullmatch(key):
        raise IdempotencyKeyInvalid(
            "An Idempotency-Key is 1 to 255 printable ASCII characters; nothing was done.",
            hint="A random uuid for each thing that is to be done once does well.",
        )
    fingerprint = _fingerprint(request, person)
    with transaction.atomic():
        if not _take(person, key, fingerprint):
            return _replay(KeptAnswer.objects.get(user=person, key=key), fingerprint)
        response = act()
        kept = {name: response.headers[name] for name in ("Location",) if name in response.headers}
        KeptAnswer.objects.filter(user=person, key=key).update(
            status=response.status_code, headers=kept, body=JSONRenderer().render(response.data).decode()
        )
    return response


def sweep() -> int:
    """Forget answers older than API_KEEP_ANSWERS days. Returns how many."""
    limit = timezone.now() - dt.timedelta(days=settings.API_KEEP_ANSWERS)
    return KeptAnswer.objects.filter(created_at__lt=limit).delete()[0]


def _take(person: User, key: str, fingerprint: str) -> bool:
    """Write the key's row, waiting for whoever is about to. False if it is there."""
    try:
        with transaction.atomic():
            _wait_at_most(f"{_PATIENCE}s")
            KeptAnswer.objects.create(user=person, key=key, fingerprint=fingerprint)
            _wait_at_most("0")
    except IntegrityError:
        _wait_at_most("0")
        return False
    except OperationalError as error:
        raise IdempotencyKeyBusy(
            "A request with this Idempotency-Key is still being worked on; nothing more was done.",
            hint="Send it again in a moment: it gives the same answer then.",
        ) from error
    return True


def _wait_at_most(time: str) -> None:
    """For a lock of PostgreSQL, until the transaction ends. SQLite has its own limit (settings.DATABASES)."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [time])


def _fingerprint(request: Request, person: User) -> str:
    team = person.limits.team_id if person.limits else None
    asked = [request.method, request.get_full_path(), team, request.data]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _replay(kept: KeptAnswer, fingerprint: str) -> Response:
    if kept.fingerprint != fingerprint:
        raise IdempotencyKeyReused(
            "This Idempotency-Key was used for another request; nothing was done.",
            hint="Use a new key for a new request, and the old one to repeat the old request as it was.",
        )
    headers = {**kept.headers, REPLAYED: "true"}
    return Response(json.loads(kept.body), status=kept.status, headers=headers)
