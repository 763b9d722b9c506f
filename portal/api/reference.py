# SPDX-License-Identifier: GPL-3.0-or-later
"""The schema as rows of the page for people. Made once in a process: it changes with the code alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from drf_spectacular.generators import SchemaGenerator

from portal.api.codes import Code, all_codes
from portal.api.scopes import MEANING, Scope


@dataclass(frozen=True)
class Field:
    """A parameter, or a field of a body. `place` is query, path, header or body."""

    name: str
    place: str
    kind: str
    required: bool
    help: str


@dataclass(frozen=True)
class Operation:
    method: str
    path: str
    text: str
    fields: tuple[Field, ...]
    answers: str


@cache
def schema() -> dict[str, Any]:
    """OpenAPI 3 of all addresses."""
    found: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)
    return found


@cache
def codes() -> list[Code]:
    return all_codes()


def scopes() -> list[tuple[str, str]]:
    return [(scope.value, MEANING[scope]) for scope in Scope]


@cache
def groups() -> list[tuple[str, list[Operation]]]:
    """Operations by the first part of their address."""
    found: dict[str, list[Operation]] = {}
    for path, methods in schema()["paths"].items():
        for method, told in methods.items():
            found.setdefault(told["tags"][0], []).append(_operation(method, path, told))
    return list(found.items())


def _operation(method: str, path: str, told: dict[str, Any]) -> Operation:
    parameters = [
        Field(
            item["name"],
            item["in"],
            _kind(item["schema"]),
            item.get("required", False),
            item.get("description", ""),
        )
        for item in told.get("parameters", ())
    ]
    answers = ", ".join(sorted(code for code in told["responses"] if code != "default"))
    return Operation(method.upper(), path, told.get("description", ""), (*parameters, *_body(told)), answers)


def _body(told: dict[str, Any]) -> list[Field]:
    if "requestBody" not in told:
        return []
    name = told["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    body = schema()["components"]["schemas"][name]
    return [
        Field(field, "body", _kind(shape), field in body.get("required", ()), shape.get("description", ""))
        for field, shape in body["properties"].items()
    ]


def _kind(shape: dict[str, Any]) -> str:
    """`uuid`, `integer`, `active, pending, …`"""
    if "$ref" in shape:
        return _kind(schema()["components"]["schemas"][shape["$ref"].rpartition("/")[2]])
    if "allOf" in shape:
        return _kind(shape["allOf"][0])
    if "oneOf" in shape:
        return " or ".join(_kind(item) for item in shape["oneOf"])
    if "enum" in shape:
        return ", ".join(str(value) for value in shape["enum"])
    return str(shape.get("format") or shape.get("type", ""))
