# SPDX-License-Identifier: GPL-3.0-or-later
"""Managers in the words and rows of their pages."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any

from django.urls import reverse
from django.utils import timezone

from portal import wording
from portal.environments.models import Environment, VirtualMachine

# An answer older than this is said to be old.
KNOWN = dt.timedelta(minutes=30)


def reachability(environment: Environment) -> str:
    return "unreachable" if environment.problem else "reachable" if environment.reached_at else "unknown"


def sentence(environment: Environment, machines: int) -> str:
    """`Answered 12 seconds ago and listed 4 machines.`"""
    now = timezone.now()
    if environment.reached_at is None:
        return "It has not answered yet."
    when = wording.ago(environment.reached_at, now)
    if environment.problem:
        return f"It last answered {when}. What stands below is what was known then."
    listed = f"{machines:,} machine{'' if machines == 1 else 's'}"
    if now - environment.reached_at > KNOWN:
        return f"It was last asked {when} and then listed {listed}; nobody has asked since. Are the workers running?"
    return f"It answered {when} and listed {listed}."


LIST_COLUMNS: list[dict[str, Any]] = [
    {"label": "Manager"},
    {"label": "State"},
    {"label": "Last answer"},
    {"label": "Version"},
    {"label": "Machines", "num": True},
]


def list_rows(environments: Iterable[Environment]) -> list[dict[str, Any]]:
    """Annotated with `vm_count`."""
    return [
        {
            "href": reverse("environments:environment", args=[item.uuid]),
            "cells": [
                {"value": item.name},
                {"value": reachability(item), "kind": "badge"},
                {"value": item.reached_at, "kind": "ago"},
                {"value": f"{item.product} {item.version}".strip()},
                {"value": item.vm_count},  # type: ignore[attr-defined]
            ],
        }
        for item in environments
    ]


def facts(environment: Environment) -> list[dict[str, Any]]:
    why = "It has not answered yet."
    ca = "Its own CA certificate" if environment.ca_pem else "The system's certificate authorities"
    return [
        {"label": "API", "value": environment.api_url, "kind": "id"},
        {"label": "Account", "value": environment.username, "note": "Its password is kept encrypted."},
        {"label": "Product", "value": environment.product, "why": why},
        {"label": "Version", "value": environment.version, "why": why},
        {"label": "Trusted by", "value": ca},
        {"label": "Last answer", "value": environment.reached_at, "kind": "ago"},
        {
            "label": "Backups",
            "value": "Without snapshots" if environment.legacy_backups else "As the Manager chooses",
            "note": "Its machines cannot be stopped or migrated while they are backed up."
            if environment.legacy_backups
            else "From compatibility level 4.7 on it takes a snapshot for each backup and merges it afterwards.",
        },
    ]


CLUSTER_COLUMNS: list[dict[str, Any]] = [
    {"label": "Cluster"},
    {"label": "Compatibility"},
    {"label": "Backups it allows"},
]


def cluster_rows(environment: Environment) -> list[dict[str, Any]]:
    return [
        {
            "cells": [
                {"value": item["name"]},
                {"value": item["version"]},
                {"value": _allowed(item["version"])},
            ]
        }
        for item in environment.clusters
    ]


def _allowed(version: str) -> str:
    """Incremental Backup API: from cluster level 4.5 on (reference 3.1)."""
    parts = version.split(".")
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        return "Not known until a backup is tried: the level could not be read."
    if (int(parts[0]), int(parts[1])) >= (4, 5):
        return "Full and incremental, of running and stopped machines"
    return "Full only: incremental backups need compatibility level 4.5"


DOMAIN_COLUMNS: list[dict[str, Any]] = [
    {"label": "Storage domain"},
    {"label": "State"},
    {"label": "Kind"},
    {"label": "For restores"},
    {"label": "Used", "num": True},
    {"label": "Free", "num": True},
]


def domain_rows(environment: Environment) -> list[dict[str, Any]]:
    return [
        {
            "cells": [
                {"value": item["name"]},
                {"value": item["status"], "kind": "badge"},
                {"value": item["kind"]},
                {"value": _for_restores(item)},
                {"value": item["used_bytes"], "kind": "bytes"},
                {"value": item["available_bytes"], "kind": "bytes"},
            ]
        }
        for item in environment.storage_domains
    ]


def _for_restores(domain: dict[str, Any]) -> str:
    if domain["is_backup"]:
        return "No: machines cannot run from a backup storage domain"
    return "Yes" if domain["status"] == "active" else f"No: it is {domain['status']}"


VM_COLUMNS: list[dict[str, Any]] = [
    {"label": "Machine"},
    {"label": "Status"},
    {"label": "Cluster"},
    {"label": "Disks", "num": True},
    {"label": "Left out of backups"},
]


def vm_rows(vms: Sequence[VirtualMachine]) -> list[dict[str, Any]]:
    """With their disks prefetched."""
    return [_vm_row(vm) for vm in vms]


def _vm_row(vm: VirtualMachine) -> dict[str, Any]:
    disks = list(vm.disks.all())
    left_out = [f"{disk.alias}: {disk.excluded_because}" for disk in disks if disk.excluded_because]
    return {
        "href": vm.get_absolute_url(),
        "cells": [
            {"value": vm.name},
            {"value": vm.status, "kind": "badge"},
            {"value": vm.cluster_name},
            {"value": len(disks)},
            {"value": "; ".join(left_out) or "Nothing"},
        ],
    }
