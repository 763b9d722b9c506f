# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of people of the table of rights, and what each of them is answered."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Persona(StrEnum):
    """Who asks, as seen from one machine of one team. The names are the columns of docs/rights.md."""

    STRANGER = "stranger"
    OUTSIDER = "outsider"
    VIEWER = "viewer"
    OPERATOR = "operator"
    AUDITOR = "auditor"
    ADMIN = "admin"
    OWNER = "owner"
    PLATFORM = "platform"


# Sent to the page for signing in; let in; let in, but what was sent is not complete (422); the password once more.
SIGN_IN = "in"
OK = "ok"
FORM = "form"
CONFIRM = "again"
CLASSES = (SIGN_IN, OK, FORM, CONFIRM, "401", "403", "404", "405", "409")


@dataclass(frozen=True)
class Cells:
    """What each persona is answered, in their order: see CLASSES. From text: `Cells.of("in 404 ok …")`."""

    answers: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Cells:
        """Raises ValueError unless it names one known class for each persona."""
        answers = tuple(text.split())
        if len(answers) != len(Persona) or set(answers) - set(CLASSES):
            raise ValueError(f"{text!r} does not name one of {CLASSES} for each of {len(Persona)} personas.")
        return cls(answers)

    def but(self, old: str, new: str) -> Cells:
        """The same with another answer to all who get `old`."""
        return Cells(tuple(new if answer == old else answer for answer in self.answers))

    def by_persona(self) -> dict[Persona, str]:
        return dict(zip(Persona, self.answers, strict=True))


#                     stranger outsider viewer operator auditor admin owner platform
ANYONE = Cells.of("    ok       ok       ok     ok       ok      ok    ok    ok")
SIGNED_IN = Cells.of(" in       ok       ok     ok       ok      ok    ok    ok")
SEES = Cells.of("      in       404      ok     ok       ok      ok    ok    ok")
OPERATES = Cells.of("  in       404      403    ok       403     ok    ok    ok")
ADMINISTERS = Cells.of("in      404      403    403      403     ok    403   ok")
TEAM_ADMINS = Cells.of("in      ok       404    404      404     ok    404   ok")
ITS_ADMINS = Cells.of("in       404      404    404      404     ok    404   ok")
PLATFORM = Cells.of("  in       404      404    404      404     404   404   ok")
TEAM_SEES = Cells.of(" in       404      ok     ok       ok      ok    404   ok")
TEAM_MANAGES = Cells.of("in     404      403    403      403     ok    404   ok")
READS_AUDIT = Cells.of("in      ok       403    403      ok      ok    403   ok")
READS_ENTRY = Cells.of("in      404      403    403      ok      ok    403   ok")
NOBODY = Cells.of("    in       404      404    404      404     404   404   404")


@dataclass(frozen=True)
class Row:
    """What one route answers. A method that is not named must be refused (405) to everybody who is signed in.

    `what` is for docs/rights.md. `of` names the object of the world (world.py) whose address is asked; `data` is
    what a POST sends: texts that stand in braces are taken from the world. `loose` is for views of allauth, some of
    which answer other methods as they answer GET, before they look at the method. `is_api`: asked with a token.
    """

    route: str
    what: str
    get: Cells | None = None
    post: Cells | None = None
    of: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    put: Cells | None = None
    patch: Cells | None = None
    delete: Cells | None = None
    loose: bool = False

    @property
    def is_api(self) -> bool:
        return self.route.startswith("api:") and self.route not in PAGES_OF_API

    def cells(self) -> dict[str, Cells]:
        """By method. The API does not send anybody to a page for signing in: it answers 401."""
        methods = {name: getattr(self, name.lower()) for name in METHODS}
        found = {name: cells for name, cells in methods.items() if cells is not None}
        if self.is_api:
            return {name: cells.but(SIGN_IN, "401") for name, cells in found.items()}
        return found


# Within the API's addresses, but for people at the pages.
PAGES_OF_API = frozenset({"api:docs"})
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
