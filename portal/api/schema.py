# SPDX-License-Identifier: GPL-3.0-or-later
"""How drf-spectacular learns what our views share: tokens, parameters, problems, lists."""

from __future__ import annotations

import inspect
from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiParameter

from portal.api.filters import Parameters
from portal.api.idempotency import HEADER
from portal.api.scopes import Scope


class TokenScheme(OpenApiAuthenticationExtension):
    target_class = "portal.api.authentication.TokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {"type": "http", "scheme": "bearer", "description": "A token: obp_…, made under Settings."}


class ApiSchema(AutoSchema):
    """Adds the parameters that the views declare, and knows our lists."""

    def _is_list_view(self, serializer: Any = None) -> bool:
        from portal.api.views import ListView

        return isinstance(self.view, ListView) and self.method == "GET"

    def get_description(self) -> str:  # type: ignore[override]  # as drf-spectacular has it
        found: str = super().get_description()
        if self.method != "POST":
            return found
        view: Any = self.view
        own = inspect.getdoc(type(view).act) if "act" in vars(type(view)) else None
        return f"{own or found}\n\n{_needed(view)}"

    def get_request_serializer(self) -> Any:
        body = getattr(self.view, "body_class", None)
        return body() if body is not None and self.method == "POST" else super().get_request_serializer()

    def get_response_serializers(self) -> Any:
        view: Any = self.view
        if self.method == "POST":
            return {view.answers: view.serializer_class}
        return super().get_response_serializers()

    def get_override_parameters(self) -> list[Any]:
        found: list[Any] = []
        parameters: type[Parameters] | None = getattr(self.view, "parameters_class", None)
        if parameters is not None and parameters().fields and self.method == "GET":
            found.append(parameters)
        if self.method == "GET":
            found.append(
                OpenApiParameter(
                    "If-None-Match",
                    str,
                    OpenApiParameter.HEADER,
                    description="The ETag of an earlier answer: 304 without a body while nothing has changed.",
                )
            )
        if self.method == "POST":
            found.append(
                OpenApiParameter(
                    HEADER,
                    {"type": "string", "minLength": 1, "maxLength": 255},
                    OpenApiParameter.HEADER,
                    description="The same key with the same body gives the same answer and is done once.",
                )
            )
        return found


def _needed(view: Any) -> str:
    if view.scope == Scope.READ:
        return "Needs the scope that the job's own kind of work needs."
    return f"Needs a token with the scope `{view.scope.value}`."


def add_problems(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """Any operation may answer with a problem document, reading one with 304; bodies take no unknown fields."""
    result["components"].setdefault("schemas", {})["Problem"] = PROBLEM
    problem = {
        "description": "Refused or failed: a problem document (RFC 9457).",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for name, component in result["components"]["schemas"].items():
        if name.endswith("BodyRequest"):
            component["additionalProperties"] = False  # filters.Body refuses what it does not know
    for path in result["paths"].values():
        for method, operation in path.items():
            operation["responses"]["default"] = problem
            if method == "get":
                operation["responses"]["304"] = {"description": "Nothing has changed since the given ETag."}
    return result


_TEXT = {"type": "string"}
PROBLEM: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "code", "detail", "hint", "retryable", "reference"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": _TEXT,
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "Stable; all of them are listed in docs/api-problems.md."},
        "detail": {"type": "string", "description": "What happened, and what was left as it was."},
        "hint": {"type": "string", "description": "How to go on."},
        "retryable": {
            "type": "boolean",
            "description": "Whether the same request may succeed later without anybody changing anything.",
        },
        "reference": {"type": "string", "description": "Finds this request in the portal's log."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "detail"],
                "properties": {"pointer": _TEXT, "detail": _TEXT},
            },
        },
        "candidates": {"type": "array", "items": {"type": "object", "additionalProperties": True}},
    },
}
