# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restore point's manifest says (docs/store-format.md describes every field)."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict
from typing import Any

from django.utils import timezone

from portal import __version__
from portal.environments.models import VirtualMachine
from portal.jobs.context import JobContext
from portal.ovirt import inventory
from portal.ovirt.inventory import DiskFacts
from portal.ovirt.vm_backup import BackupDisk
from portal.ovirt.vm_config import VmConfig


def excluded_because(disk: DiskFacts) -> str:
    return inventory.excluded_because(
        storage_type=disk.storage_type, shareable=disk.shareable, active=disk.active
    )


def configuration(config: VmConfig) -> dict[str, Any]:
    """The part of the manifest that is known when the backup starts; JSON, kept in the job's memory."""
    facts = config.facts
    return {
        "machine": {
            "id": facts.vm_id,
            "name": facts.name,
            "description": facts.description,
            "status": facts.status,
            "cluster_id": facts.cluster_id,
            "cluster_name": config.cluster_name,
            "compatibility": facts.compatibility,
            "memory_bytes": facts.memory_bytes,
            "cpu_cores": facts.cpu_cores,
            "os_type": facts.os_type,
            "tags": list(facts.tags),
            "permissions": list(config.permissions),
            "affinity_labels": list(config.affinity_labels),
            "quota_id": config.quota_id,
            "agent_reported": config.agent_reported,
        },
        "manager": {"version": config.manager_version, "time": config.manager_time},
        "disks": [asdict(disk) for disk in facts.disks if not excluded_because(disk)],
        "excluded_disks": [
            {"disk_id": disk.disk_id, "alias": disk.alias, "reason": excluded_because(disk)}
            for disk in facts.disks
            if excluded_because(disk)
        ],
        "nics": [asdict(nic) for nic in config.nics],
    }


def note_dropped(config: dict[str, Any], taken: set[str]) -> list[str]:
    """Move disks that the Manager silently left out to the excluded ones; returns their aliases."""
    dropped = [disk for disk in config["disks"] if disk["disk_id"] not in taken]
    config["disks"] = [disk for disk in config["disks"] if disk["disk_id"] in taken]
    config["excluded_disks"] += [
        {
            "disk_id": disk["disk_id"],
            "alias": disk["alias"],
            "reason": "the Manager left it out of the backup without a reason",
        }
        for disk in dropped
    ]
    return [disk["alias"] for disk in dropped]


def build(
    context: JobContext,
    vm: VirtualMachine,
    disks: list[BackupDisk],
    results: dict[str, dict[str, Any]],
    *,
    checkpoint_id: str | None,
) -> dict[str, Any]:
    """The caller's part of the manifest; publishing adds names, indexes (sizes, digests) and files."""
    memory = context.memory
    config = memory["config"]
    facts = {disk["disk_id"]: disk for disk in config["disks"]}
    described = [
        {
            **facts[disk.disk_id],
            "size_bytes": disk.size_bytes,
            "format": disk.format,
            **results[disk.disk_id],
        }
        for disk in disks
    ]
    dirty = [disk["dirty_bytes"] for disk in described if disk["dirty_bytes"] is not None]
    began = dt.datetime.fromisoformat(memory["began_at"])
    return {
        "kind": "restore-point",
        "environment_name": vm.environment.name,
        "machine": config["machine"],
        "taken_at": memory["ready_at"],
        "manager": config["manager"],
        "method": "incremental",
        "flow": memory.get("flow"),
        "mode": _mode({disk["mode"] for disk in described}),
        "reason": memory["reason"],
        "backup_id": memory["backup_id"],
        "checkpoint_id": checkpoint_id,
        "from_checkpoint_id": memory.get("from_checkpoint_id"),
        "base_point": memory.get("base_point"),
        "consistency": _consistency(config["machine"], memory.get("freeze_failed", False)),
        "disks": described,
        "excluded_disks": config["excluded_disks"],
        "nics": config["nics"],
        "bytes_read": sum(disk["bytes_read"] for disk in described),
        "bytes_stored": sum(disk["bytes_stored"] for disk in described),
        "dirty_bytes": sum(dirty) if dirty else None,
        "duration_seconds": round((timezone.now() - began).total_seconds(), 3),
        "job": str(context.job.uuid),
        "requested_by": context.job.requested_by_name,
        "requested_for": context.job.requested_for,
        "ticket": context.job.ticket,
        "portal_version": __version__,
    }


def _mode(modes: set[str]) -> str:
    return modes.pop() if len(modes) == 1 else "mixed"


def _consistency(machine: dict[str, Any], freeze_failed: bool) -> dict[str, str]:
    """How far the guest was at rest. The Manager freezes through the agent and only tells of failures."""
    if machine["status"] == "down":
        return {"level": "offline", "evidence": "The machine was down."}
    if freeze_failed:
        return {"level": "crash", "evidence": "Event 10764: the guest's file systems could not be frozen."}
    if not machine["agent_reported"]:
        return {"level": "crash", "evidence": "No guest agent reported, so nothing could freeze the guest."}
    return {
        "level": "unknown",
        "evidence": "A guest agent reports and no failed freeze was recorded; the Manager does not confirm one.",
    }
