# SPDX-License-Identifier: GPL-3.0-or-later
"""All codes that a problem document may bear, read off the classes of errors, and told as a page of docs."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from portal.api.errors import TokenRefused
from portal.errors import PortalError, code_of

_PACKAGES = ("portal", "backups", "restores")
# No modules with errors of their own, and not to be imported for their names.
_LEFT_OUT = ("migrations", "management", "wsgi", "celery", "settings")
_BASES = (PortalError, TokenRefused)


@dataclass(frozen=True)
class Code:
    """`meaning` is the first paragraph of what the error says of itself."""

    code: str
    status: int
    retryable: bool
    meaning: str


def all_codes() -> list[Code]:
    """In the order of the alphabet. Classes may share one; the fuller meaning is told.

    Raises ValueError if they would answer differently.
    """
    found: dict[str, Code] = {}
    for kind in _kinds():
        code = Code(code_of(kind), kind.status, kind.retryable, _meaning(kind))
        other = found.setdefault(code.code, code)
        if (other.status, other.retryable) != (code.status, code.retryable):
            raise ValueError(f"Two errors have the code {code.code}.")
        if len(other.meaning) < len(code.meaning):
            found[code.code] = code
    return [found[name] for name in sorted(found)]


def as_markdown(codes: list[Code]) -> str:
    rows = [
        f"| `{code.code}` | {code.status} | {'yes' if code.retryable else 'no'} | {code.meaning} |"
        for code in codes
    ]
    return "\n".join([_HEAD, *rows, ""])


_HEAD = """# Problem codes

Written by `manage.py api_problems --write` from the errors themselves; `make check` fails while it is behind.

Whatever the API refuses is a problem document (RFC 9457, `application/problem+json`). Programs look at `code`, which does not
change: new codes may come, an old one keeps its meaning. `detail` says what happened and what was left as it was, `hint` how to
go on; both are for people. `retryable` says whether the same request may succeed later without anybody changing
anything, `reference` finds the request in the portal's log. `invalid_input` has `errors` with JSON pointers,
`ambiguous_name` has `candidates`. The same codes stand in the `error` of a job that failed; some are found nowhere else.

| code | status | retryable | what it means |
|---|---|---|---|"""


def _kinds() -> Iterator[type[PortalError]]:
    for name in _PACKAGES:
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            if not set(module.name.split(".")) & set(_LEFT_OUT):
                _import(module.name)
    waiting: list[Any] = [PortalError]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if kind not in _BASES and kind.__module__.split(".")[0] in _PACKAGES:
            yield kind


def _import(name: str) -> None:
    """A module whose optional library is not installed (LDAP) raises no error here, so it has no codes here."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in _PACKAGES:
            raise


def _meaning(kind: type[PortalError]) -> str:
    first = (kind.__doc__ or "").strip().split("\n\n")[0]
    return " ".join(first.split()).replace("|", "\\|")
