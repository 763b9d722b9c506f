# SPDX-License-Identifier: GPL-3.0-or-later
"""Walk every route of the portal as everybody, and compare with the table of rights.

Each request is one cell and runs in a transaction that is rolled back, so that every persona finds the same world.
A method that the table does not name is tried by the platform admin: if even that one is told 405, nobody gets
further.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import resolve_url
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from portal.accounts.models import User
from portal.rights import world as worlds
from portal.rights.cells import CONFIRM, FORM, METHODS, OK, SIGN_IN, Persona, Row
from portal.rights.table import TABLE
from portal.rights.world import World


@dataclass(frozen=True)
class Cell:
    """One request of the walk: what the table says and what was answered (`found` is a class or a status)."""

    route: str
    method: str
    persona: Persona
    expected: str
    found: str

    @property
    def is_right(self) -> bool:
        return self.found == self.expected

    def __str__(self) -> str:
        return f"{self.method} {self.route} as {self.persona}: {self.found}, the table says {self.expected}"


@dataclass(frozen=True)
class Walk:
    """`missing` routes are not in the table, `stale` ones only there. `cells` are all requests that were made."""

    routes: int
    missing: list[str]
    stale: list[str]
    cells: list[Cell]

    @property
    def wrong(self) -> list[str]:
        """In words; empty if the portal does as the table says."""
        return [
            *(f"{route} is not in the table of rights (portal/rights/table.py)" for route in self.missing),
            *(f"{route} is in the table of rights, but nowhere else" for route in self.stale),
            *(str(cell) for cell in self.cells if not cell.is_right),
        ]

    def figures(self) -> dict[str, Any]:
        return {"routes": self.routes, "cells_checked": len(self.cells), "wrong": self.wrong}


def all_routes(patterns: Any = None, prefix: str = "") -> Iterator[str]:
    """The names of all patterns of the resolver, with namespaces. A pattern without a name counts by its text."""
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        if isinstance(pattern, URLResolver):
            inner = f"{prefix}{pattern.namespace}:" if pattern.namespace else prefix
            yield from all_routes(pattern.url_patterns, inner)
        elif isinstance(pattern, URLPattern):
            yield f"{prefix}{pattern.name or pattern.pattern}"


def unnamed() -> list[str]:
    """Routes of the resolver that the table does not name."""
    return sorted(set(all_routes()) - {row.route for row in TABLE})


def walk(folder: Path, rows: list[Row] | None = None) -> Walk:
    """Walk the whole table, or only `rows`, in a world made for it in `folder`, and take everything back."""
    found = list(all_routes())
    with transaction.atomic():
        world = worlds.build(folder)
        asker = _Asker(world)
        cells = [
            cell
            for row in (TABLE if rows is None else rows)
            if row.route in found
            for cell in _walk_row(asker, row)
        ]
        transaction.set_rollback(True)
    return Walk(
        routes=len(found),
        missing=unnamed(),
        stale=sorted({row.route for row in TABLE} - set(found)),
        cells=cells,
    )


class _Asker:
    """Asks as anybody: pages by a session, the API by a token. One client, so that middleware is loaded once."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._client: Any = Client(raise_request_exception=False, SERVER_NAME="localhost")
        self._sessions = {persona: self._sign_in(person) for persona, person in world.people.items()}

    def _sign_in(self, person: User) -> str:
        client = Client(SERVER_NAME="localhost")
        client.force_login(person)
        client.get(reverse("alive"))  # the first request notes where the person is signed in
        return client.cookies[settings.SESSION_COOKIE_NAME].value

    def ask(self, row: Row, method: str, persona: Persona) -> HttpResponse:
        """What is changed by the request is taken back."""
        address = reverse(row.route, args=self.world.ids[row.of])
        data = self.world.filled(row.data) if method != "GET" else {}
        cache.clear()  # nobody is refused for having walked too fast
        with transaction.atomic():
            ask = self._ask_api if row.is_api else self._ask_page
            response = ask(persona, method, address, data)
            transaction.set_rollback(True)
        return response

    def _ask_api(self, persona: Persona, method: str, address: str, data: dict[str, Any]) -> HttpResponse:
        token = self.world.tokens.get(persona)
        headers = {"authorization": f"Bearer {token}"} if token else {}
        body = "" if method == "GET" else json.dumps(data)
        self._client.cookies.clear()
        answer: HttpResponse = self._client.generic(
            method, address, body, "application/json", headers=headers
        )
        return answer

    def _ask_page(self, persona: Persona, method: str, address: str, data: dict[str, Any]) -> HttpResponse:
        self._client.cookies.clear()
        if persona in self._sessions:
            self._client.cookies[settings.SESSION_COOKIE_NAME] = self._sessions[persona]
        answer: HttpResponse = getattr(self._client, method.lower())(address, data)
        return answer


def _walk_row(asker: _Asker, row: Row) -> Iterator[Cell]:
    named = row.cells()
    for method in METHODS:
        if method in named:
            for persona, answer in named[method].by_persona().items():
                yield Cell(row.route, method, persona, answer, _class_of(asker.ask(row, method, persona)))
        else:
            yield _refused(asker, row, method)


def _refused(asker: _Asker, row: Row, method: str) -> Cell:
    found = _class_of(asker.ask(row, method, Persona.PLATFORM))
    as_get = row.loose and row.get is not None and found == row.get.by_persona()[Persona.PLATFORM]
    return Cell(row.route, method, Persona.PLATFORM, found if as_get else "405", found)


def _class_of(response: HttpResponse) -> str:
    status = response.status_code
    if 300 <= status < 400:
        to = response.headers.get("Location", "")
        if to.startswith(f"{resolve_url(settings.LOGIN_URL)}?"):
            return SIGN_IN
        return CONFIRM if to.startswith(f"{reverse('account_reauthenticate')}?") else OK
    if status < 300:
        return OK
    return FORM if status == 422 else str(status)
