# SPDX-License-Identifier: GPL-3.0-or-later
"""Tokens and service accounts in the words and rows of their pages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.urls import reverse

from portal.accounts.models import User
from portal.api.models import ApiToken

# Status of components/_badge.html and the word on it.
_BADGES = {"live": ("active", "Good"), "expired": ("stale", "Expired"), "revoked": ("deleted", "Revoked")}

COLUMNS: list[dict[str, Any]] = [
    {"label": "Token"},
    {"label": "State"},
    {"label": "May"},
    {"label": "Machines", "minor": True},
    {"label": "Expires"},
    {"label": "Last used"},
]
SERVICE_COLUMNS: list[dict[str, Any]] = [
    {"label": "Service account"},
    {"label": "State"},
    {"label": "Good tokens", "num": True},
    {"label": "Last used"},
]


def badge(token: ApiToken) -> tuple[str, str]:
    return _BADGES[token.state]


def rows(tokens: Iterable[ApiToken]) -> list[dict[str, Any]]:
    """Read with their `team`."""
    found = []
    for token in tokens:
        status, label = badge(token)
        cells = [
            {"value": token.name},
            {"value": status, "kind": "badge", "label": label},
            {"value": ", ".join(token.scope_names)},
            {"value": token.team.name if token.team else "All"},
            {"value": token.expires_at, "kind": "moment"} if token.expires_at else {"value": "Never"},
            {"value": token.last_used_at, "kind": "ago"},
        ]
        found.append({"href": token.get_absolute_url(), "cells": cells})
    return found


def facts(token: ApiToken) -> list[dict[str, Any]]:
    used = f"From {token.last_used_from}." if token.last_used_from else ""
    found: list[dict[str, Any]] = [
        {"label": "Acts as", "value": token.user.get_username()},
        {"label": "May", "value": ", ".join(token.scope_names)},
        {
            "label": "Machines",
            "value": f"Of {token.team.name}" if token.team else "All that its owner reaches",
        },
        {"label": "Only from", "value": ", ".join(token.networks) or "Anywhere"},
        {"label": "Made", "value": token.created_at, "kind": "ago", "note": f"By {token.created_by_name}."},
        {"label": "Expires", "value": token.expires_at, "kind": "moment"}
        if token.expires_at
        else {"label": "Expires", "value": "Never"},
        {"label": "Last used", "value": token.last_used_at, "kind": "ago", "note": used},
        {"label": "Begins with", "value": f"obp_{token.prefix}_", "kind": "id"},
    ]
    if token.revoked_at:
        note = f"By {token.revoked_by_name}."
        found.append({"label": "Revoked", "value": token.revoked_at, "kind": "ago", "note": note})
    return found


def service_rows(services: Iterable[Any]) -> list[dict[str, Any]]:
    """Annotated with `live_tokens` and `last_used`."""
    return [
        {
            "href": reverse("tokens:service", args=[service.uuid]),
            "cells": [
                {"value": service.get_username()},
                {
                    "value": "active" if service.is_active else "down",
                    "kind": "badge",
                    "label": on_or_off(service),
                },
                {"value": service.live_tokens},
                {"value": service.last_used, "kind": "ago"},
            ],
        }
        for service in services
    ]


def on_or_off(service: User) -> str:
    return "On" if service.is_active else "Off"
