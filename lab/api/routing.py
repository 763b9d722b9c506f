# SPDX-License-Identifier: GPL-3.0-or-later
"""From a path to the function that answers it."""

import xml.etree.ElementTree as ET
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import unquote_plus

from lab.api.xmlio import parse_flag, uuid_text
from lab.engine.faults import EntityMissing, malformed
from lab.engine.manager import Manager
from lab.xmlsafe import BadXml, parse


@dataclass(frozen=True)
class Call:
    """One request: `ids` are the variable parts of its path, `query` joins query and matrix parameters."""

    manager: Manager
    method: str
    path: str
    ids: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    data: bytes = b""

    def flag(self, name: str, default: bool = False) -> bool:
        """A boolean parameter; present without a value means true."""
        if name not in self.query:
            return default
        value = self.query[name]
        parsed = parse_flag(value, default)
        return True if value == "" else bool(parsed)

    @property
    def all_content(self) -> bool:
        header = parse_flag(self.headers.get("All-Content"), False)
        return self.flag("all_content", bool(header))

    def body(self, root: str) -> ET.Element:
        """The posted document, which must have this root. Raises EngineFault (400)."""
        try:
            element = parse(self.data)
        except BadXml as error:
            raise malformed(f"Cannot parse the request body: {error}") from error
        if element.tag != root:
            raise malformed(f"Expected <{root}> but the request body is <{element.tag}>")
        return element

    def optional_body(self, root: str) -> ET.Element:
        return self.body(root) if self.data.strip() else ET.Element(root)


@dataclass(frozen=True)
class Reply:
    """An answer other than a plain 200 with an element."""

    status: int
    element: ET.Element | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[Call], Awaitable[Reply | ET.Element]]


class Router:
    """Patterns are paths with `{name}` parts, relative to the API's root; every id is checked to be a UUID, but
    those whose name ends in `_key`."""

    def __init__(self) -> None:
        self._routes: dict[int, list[tuple[tuple[str, ...], dict[str, Handler]]]] = {}

    def add(self, method: str, pattern: str, handler: Handler) -> None:
        parts = tuple(part for part in pattern.split("/") if part)
        routes = self._routes.setdefault(len(parts), [])
        for known, handlers in routes:
            if known == parts:
                handlers[method] = handler
                return
        routes.append((parts, {method: handler}))

    def find(self, parts: tuple[str, ...]) -> tuple[dict[str, Handler], dict[str, str]]:
        """The handlers by method and the ids of a path; fixed parts win over variable ones. Raises EntityMissing."""
        best: tuple[int, dict[str, Handler], dict[str, str]] | None = None
        for pattern, handlers in self._routes.get(len(parts), []):
            ids = _match(pattern, parts)
            if ids is not None and (best is None or len(ids) < best[0]):
                best = (len(ids), handlers, ids)
        if best is None:
            raise EntityMissing("/".join(parts))
        ids = {name: value if name.endswith("_key") else uuid_text(value) for name, value in best[2].items()}
        return best[1], ids


def _match(pattern: tuple[str, ...], parts: tuple[str, ...]) -> dict[str, str] | None:
    ids = {}
    for wanted, part in zip(pattern, parts, strict=True):
        if wanted.startswith("{"):
            ids[wanted[1:-1]] = part
        elif wanted != part:
            return None
    return ids


def split_path(path: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """The parts of a decoded path without its matrix parameters, and the matrix parameters of the last part."""
    parts = [part for part in path.split("/") if part]
    matrix: dict[str, str] = {}
    names = []
    for part in parts:
        name, *parameters = part.split(";")
        names.append(name)
        matrix = {}
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            matrix[key] = unquote_plus(value)
    return tuple(names), matrix


async def internal_get(router: Router, call: Call, path: str) -> ET.Element | None:
    """What GET on another path of the API answers, None if there is nothing."""
    try:
        handlers, ids = router.find(split_path(path)[0])
        handler = handlers.get("GET")
        if handler is None:
            return None
        answer = await handler(
            replace(call, method="GET", path=path, ids=ids, query={}, headers={}, data=b"")
        )
    except EntityMissing:
        return None
    return answer.element if isinstance(answer, Reply) else answer
