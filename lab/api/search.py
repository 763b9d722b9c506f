# SPDX-License-Identifier: GPL-3.0-or-later
"""The search language of the top collections: `name=x* and status="up" sortby name desc page 2`, and bare words."""

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from lab.engine.faults import EngineFault

T = TypeVar("T")
# A field gives the values an object is found by.
Fields = Mapping[str, Callable[[T], object]]

PAGE_SIZE = 100
# Fields with a fixed set of values are never compared by case: official clients ask for `status=Up`.
ENUMERATIONS = ("status", "severity", "type", "format", "disktype", "contenttype")
TOKEN = re.compile(
    r"""\s*(?:
        (?P<field>[A-Za-z_][\w.]*)\s*(?P<operator>!=|>=|<=|=|>|<)\s*(?P<value>"[^"]*"|[^\s"]+)
        |"(?P<quoted>[^"]*)"
        |(?P<word>[^\s"]+)
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Term:
    """`field` is None for a bare word, which is looked for in every field."""

    field: str | None
    operator: str
    value: str


@dataclass(frozen=True)
class Search:
    """`groups` are joined by `or`, the terms in each by `and`."""

    groups: tuple[tuple[Term, ...], ...]
    sort_by: str | None = None
    descending: bool = False
    page: int | None = None


def parse_search(text: str) -> Search:
    """Raises EngineFault (400)."""
    words: list[tuple[str, Term | None]] = []
    position = 0
    while position < len(text.rstrip()):
        match = TOKEN.match(text, position)
        if match is None:
            raise EngineFault(400, f"[Invalid Search text: {text}]")
        position = match.end()
        words.append(_token(match))
    return _build(words, text)


def _token(match: re.Match[str]) -> tuple[str, Term | None]:
    if match["field"]:
        value = match["value"].strip('"')
        return "", Term(match["field"].lower().replace("_", ""), match["operator"], value)
    if match["quoted"] is not None:
        return "", Term(None, "=", match["quoted"])
    return match["word"].lower(), Term(None, "=", match["word"])


def _build(words: list[tuple[str, Term | None]], text: str) -> Search:
    groups: list[list[Term]] = [[]]
    sort_by, descending, page = None, False, None
    index = 0
    while index < len(words):
        word, term = words[index]
        following = words[index + 1][0] if index + 1 < len(words) else ""
        if word == "or":
            groups.append([])
        elif word == "sortby" and following:
            sort_by = following.replace("_", "")
            index += 1
            direction = words[index + 1][0] if index + 1 < len(words) else ""
            if direction in ("asc", "desc"):
                descending = direction == "desc"
                index += 1
        elif word == "page" and following:
            page = _page(following, text)
            index += 1
        elif word != "and" and term is not None:
            groups[-1].append(term)
        index += 1
    return Search(tuple(tuple(group) for group in groups), sort_by, descending, page)


def _page(word: str, text: str) -> int:
    if not word.isdecimal() or not 0 < int(word) < 2**31:
        raise EngineFault(400, f"[Invalid Search text: {text}]")
    return int(word)


def select(
    objects: Sequence[T], fields: Fields[T], *, search: str | None, maximum: int | None, case_sensitive: bool
) -> list[T]:
    """The objects that a listing answers with. Raises EngineFault (400) for a search that cannot be read."""
    plan = parse_search(search or "")
    known = {name.replace("_", "").lower(): getter for name, getter in fields.items()}
    found = [item for item in objects if _matches(item, plan, known, case_sensitive)]
    if plan.sort_by is not None:
        getter = known.get(plan.sort_by)
        if getter is None:
            raise EngineFault(400, f"[Invalid Search text: unknown field {plan.sort_by}]")
        found.sort(key=lambda item: _sort_key(getter(item)), reverse=plan.descending)
    if plan.page is not None:
        size = maximum if maximum is not None and maximum > 0 else PAGE_SIZE
        return found[(plan.page - 1) * size : plan.page * size]
    return found if maximum is None or maximum < 0 else found[:maximum]


def _matches(item: T, plan: Search, known: Fields[T], case_sensitive: bool) -> bool:
    if not any(plan.groups):
        return True
    return any(group and all(_holds(item, t, known, case_sensitive) for t in group) for group in plan.groups)


def _holds(item: T, term: Term, known: Fields[T], case_sensitive: bool) -> bool:
    if term.field is None:
        return any(_contains(value, term.value) for get in known.values() for value in _values(get(item)))
    getter = known.get(term.field)
    if getter is None:
        raise EngineFault(400, f"[Invalid Search text: unknown field {term.field}]")
    values = list(_values(getter(item)))
    if term.operator in ("=", "!="):
        exact = case_sensitive and term.field not in ENUMERATIONS
        equal = any(_equal(value, term.value, exact) for value in values)
        return equal == (term.operator == "=")
    return any(_compare(value, term.operator, term.value) for value in values)


def _values(value: object) -> Iterable[str]:
    if value is None:
        return []
    if isinstance(value, (list, tuple, set)):
        return [text for part in value for text in _values(part)]
    if isinstance(value, bool):
        return ["true" if value else "false"]
    return [value.isoformat() if isinstance(value, datetime) else str(value)]


def _contains(value: str, word: str) -> bool:
    if "*" in word:
        return fnmatch.fnmatchcase(value.lower(), f"*{_literal(word.lower())}*")
    return word.lower() in value.lower()


def _equal(value: str, pattern: str, case_sensitive: bool) -> bool:
    if not case_sensitive:
        value, pattern = value.lower(), pattern.lower()
    return fnmatch.fnmatchcase(value, _literal(pattern))


def _literal(pattern: str) -> str:
    """Only `*` is special in the engine's search."""
    return pattern.replace("[", "[[]").replace("?", "[?]")


def _compare(value: str, operator: str, wanted: str) -> bool:
    left, right = _sort_key(value), _sort_key(wanted)
    return {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[operator]


def _sort_key(value: object) -> tuple[int, float, str]:
    text = next(iter(_values(value)), "")
    try:
        return (0, float(text), "")
    except ValueError:
        return (1, 0.0, text.lower())
