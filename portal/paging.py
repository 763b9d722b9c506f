# SPDX-License-Identifier: GPL-3.0-or-later
"""Keyset paging, the same for pages and the API: rows come and go, so a page is named by the row it starts at.

A cursor is an opaque text: base64url of `[direction, [values of the order's fields]]` as JSON. It is not signed,
since it holds nothing but a place in an order: it widens no queryset, which is narrowed by rights before. What it
holds is checked against the model's fields; a cursor of another list or of a row that is gone by now does no harm.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db.models import Field, Model, Q, QuerySet
from django.http import QueryDict

from portal.errors import PortalError

PAGE_SIZE = 50
# Counting ends here: what lies behind is said as "1,000+".
COUNTED = 1000
_OLDER, _NEWER = "older", "newer"
_LONGEST = 500

Row = TypeVar("Row", bound=Model)


class BadCursor(PortalError):
    """Not a cursor of this list."""

    status = 400


@dataclass(frozen=True)
class Order:
    """Columns that order a list, the last of them unique, none of them empty in it; newest (greatest) first."""

    fields: tuple[str, ...] = ("id",)
    descending: bool = True

    def sorting(self, *, reverse: bool = False) -> list[str]:
        sign = "-" if self.descending != reverse else ""
        return [f"{sign}{name}" for name in self.fields]

    def beyond(self, values: list[Any], *, reverse: bool = False) -> Q:
        """What comes after the row with these values (`reverse`: before it).

        `a <= x AND (a < x OR …)`: the first half alone is what an index can be entered at, at any depth.
        """
        than = "lt" if self.descending != reverse else "gt"
        found = Q()
        for name, value in reversed(list(zip(self.fields, values, strict=True))):
            strictly = Q(**{f"{name}__{than}": value})
            found = Q(**{f"{name}__{than}e": value}) & (strictly | found) if found else strictly
        return found

    def cursor(self, row: Model, *, reverse: bool = False) -> str:
        values = [_as_json(getattr(row, name)) for name in self.fields]
        text = json.dumps([_NEWER if reverse else _OLDER, values], separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    def read(self, model: type[Model], cursor: str) -> tuple[bool, list[Any]]:
        """Whether it leads towards newer rows, and the values it starts at. Raises BadCursor."""
        try:
            if len(cursor) > _LONGEST:
                raise ValueError
            padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
            direction, given = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
            if direction not in (_OLDER, _NEWER) or len(given) != len(self.fields):
                raise ValueError
            values = [
                _value(_field(model, name), item) for name, item in zip(self.fields, given, strict=True)
            ]
        except (
            ValueError,
            TypeError,
            OverflowError,
            RecursionError,
            binascii.Error,
            ValidationError,
        ) as error:
            raise BadCursor(
                "The cursor does not belong to this list, so nothing was listed.",
                hint="Leave it out to begin at the first page, and take the next one from the answer.",
            ) from error
        return direction == _NEWER, values


BY_ID = Order()


@dataclass(frozen=True)
class Page(Generic[Row]):
    """`rows` in the list's order; the cursors lead on, empty where there is no such page."""

    rows: list[Row]
    newer: str
    older: str


@dataclass(frozen=True)
class ListPage(Generic[Row]):
    """A page for people: `shown` as a sentence, the addresses are query strings, empty where there is no such page."""

    rows: list[Row]
    shown: str
    newer_url: str
    older_url: str


def page_of(
    matching: QuerySet[Row], cursor: str = "", *, order: Order = BY_ID, size: int = PAGE_SIZE
) -> Page[Row]:
    """The first page, or the one that `cursor` leads to. Raises BadCursor."""
    back, values = order.read(matching.model, cursor) if cursor else (False, None)
    rows = matching.filter(order.beyond(values, reverse=back)) if values is not None else matching
    found = list(rows.order_by(*order.sorting(reverse=back))[: size + 1])
    more, rows_here = len(found) > size, found[:size]
    if back:
        rows_here.reverse()
    newer, older = (more, True) if back else (values is not None, more)
    return Page(
        rows=rows_here,
        newer=order.cursor(rows_here[0], reverse=True) if rows_here and newer else "",
        older=order.cursor(rows_here[-1]) if rows_here and older else "",
    )


def list_page(
    matching: QuerySet[Row], params: QueryDict, noun: str, *, order: Order = BY_ID
) -> ListPage[Row]:
    """The page that `cursor` in the address asks for; one that makes no sense or is empty leads to the first page."""
    try:
        page = page_of(matching, params.get("cursor", ""), order=order)
    except BadCursor:
        page = Page([], "", "")
    if not page.rows:
        page = page_of(matching, order=order)
    total = counted(matching, order=order)
    shown = in_words(total, noun)
    return ListPage(
        rows=page.rows,
        shown=shown if len(page.rows) == total else f"{len(page.rows)} of {shown}",
        newer_url=_url(params, page.newer),
        older_url=_url(params, page.older),
    )


def counted(matching: QuerySet[Any], *, order: Order = BY_ID) -> int:
    """How many there are; one more than `COUNTED` stands for any greater number.

    Counted in the order of the pages, so that the same index serves and few rows do not take a look at all.
    """
    return matching.order_by(*order.sorting())[: COUNTED + 1].count()


def in_words(total: int, noun: str) -> str:
    """`1 job`, `50 jobs`, `2 entries`, `1,000+ jobs` for what `counted` told."""
    many = f"{noun[:-1]}ies" if noun.endswith("ry") else f"{noun}s"
    if total > COUNTED:
        return f"{COUNTED:,}+ {many}"
    return f"{total:,} {noun if total == 1 else many}"


def _url(params: QueryDict, cursor: str) -> str:
    kept = params.copy()
    kept["cursor"] = cursor
    return f"?{kept.urlencode()}" if cursor else ""


def _field(model: type[Model], name: str) -> Field[Any, Any]:
    found = model._meta.get_field(name)
    if not isinstance(found, Field):
        raise FieldDoesNotExist(name)
    return found


def _as_json(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return value.isoformat()
    return value if isinstance(value, (int, str)) else str(value)


def _value(field: Field[Any, Any], given: Any) -> Any:
    """As the field holds it. Raises ValueError, OverflowError or ValidationError for what it never could."""
    if not isinstance(given, (int, str)) or isinstance(given, bool) or "\0" in str(given):
        raise ValueError
    str(given).encode()  # half of a surrogate pair is no text that a database takes
    value = field.to_python(given)
    if isinstance(value, dt.datetime):
        if value.tzinfo is None:
            raise ValueError
        value = value.astimezone(dt.UTC)
    field.run_validators(value)
    return value
