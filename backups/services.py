# SPDX-License-Identifier: GPL-3.0-or-later
"""Starting backups, and what happens to restore points afterwards. The only gate and the only writer."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from backups import access, keeping, quotas
from backups.errors import BackupAlreadyRunning, NoRepository, NothingToBackUp, PointInUse
from backups.keeping import hold_point, pin_point, release_hold, undelete_point, unpin_point
from backups.models import Repository, RestorePoint, RestorePointDisk, default_repository
from backups.store.errors import PointNotFound
from backups.store.points import StoredPoint
from backups.store.repository import Repository as Store
from backups.upkeep import repository_facts, start_collection, verify_repository
from portal.accounts.roles import Capability
from portal.audit import services as audit
from portal.environments.models import VirtualMachine
from portal.events import services as events
from portal.events.kinds import EventKind
from portal.jobs import announce, locks
from portal.jobs import services as jobs
from portal.jobs.models import Job, JobLock

__all__ = [
    "create_repository",
    "delete_restore_point",
    "ensure_default_repository",
    "hold_point",
    "pin_point",
    "record_point",
    "release_hold",
    "repository_facts",
    "start_collection",
    "start_vm_backup",
    "undelete_point",
    "unpin_point",
    "verify_repository",
    "verify_restore_point",
]

BACKUP_TASK = "backups.vm_backup"
VERIFY_TASK = "backups.verify_point"
METHOD = "incremental"


def start_vm_backup(
    *,
    actor: Any,
    vm: VirtualMachine,
    repository: Repository | None = None,
    full: bool = False,
    legacy: bool | None = None,
    requested_for: str = "",
    ticket: str = "",
    reason: str = "",
    via: str = Job.Via.PAGE,
) -> Job:
    """Order a backup of all the VM's disks by the Incremental Backup API.

    `full` asks for a full one; otherwise the method decides and says why. `legacy` asks for the Manager's flow
    without a snapshot (or with one, False); None is as the environment says. Raises NotAllowed,
    BackupAlreadyRunning, NothingToBackUp, NoRepository, QuotaReached.
    """
    access.require(actor, vm, Capability.BACK_UP)
    repository = repository or default_repository()
    if repository is None:
        raise NoRepository(
            "There is no repository yet, so nothing was started.",
            hint="A platform admin can make one: manage.py create_repository.",
        )
    disks = [disk for disk in vm.disks.all() if not disk.excluded_because]
    if not disks:
        raise NothingToBackUp(
            f"{vm.name} has no disk that the Manager can back up, so nothing was started.",
            hint="Direct LUN, shareable and inactive disks are left out by the Manager.",
        )
    running = vm.jobs.active().filter(kind="vm_backup").first()
    if running is not None:
        raise BackupAlreadyRunning(
            f"{vm.name} is already being backed up; nothing more was started.",
            hint="Wait for that job, or cancel it.",
        )
    quotas.require_room_for_a_point(vm)
    return jobs.order_job(
        "backup.start",
        actor=actor,
        via=via,
        about=vm,
        noted={"ticket": ticket},
        kind="vm_backup",
        task=BACKUP_TASK,
        title=f"Back up {vm.name}",
        locks=[
            locks.exclusive(vm.lock_key),
            locks.shared(f"environment:{vm.environment.uuid}", limit=settings.ENVIRONMENT_JOBS),
            locks.shared(f"repository:{repository.uuid}"),
        ],
        params={
            "repository": str(repository.uuid),
            "full": full,
            **({} if legacy is None else {"legacy": legacy}),
        },
        method=METHOD,
        requested_for=requested_for,
        capability=Capability.BACK_UP,
        ticket=ticket,
        reason=reason,
        **jobs.about_vm(vm),
    )


def record_point(
    repository: Repository, vm: VirtualMachine, stored: StoredPoint, job: Job | None
) -> RestorePoint:
    """Make the rows of a published point from its manifest alone. Safe to repeat."""
    manifest = stored.manifest
    with transaction.atomic():
        point, made = RestorePoint.objects.get_or_create(
            uuid=manifest["point"],
            defaults={
                "repository": repository,
                "vm": vm,
                "job": job,
                "taken_at": dt.datetime.fromisoformat(manifest["taken_at"]),
                "method": manifest["method"],
                "mode": manifest["mode"],
                "reason": manifest["reason"],
                "vm_name": manifest["machine"]["name"][:255],
                "vm_was_up": manifest["machine"]["status"] != "down",
                "consistency": manifest["consistency"]["level"],
                "consistency_evidence": _plain(manifest["consistency"].get("evidence"), 1000),
                "excluded_disks": _excluded(manifest.get("excluded_disks")),
                "checkpoint_id": manifest["checkpoint_id"],
                "from_checkpoint_id": manifest["from_checkpoint_id"],
                "size_bytes": sum(disk["size_bytes"] for disk in manifest["disks"]),
                "bytes_read": manifest["bytes_read"],
                "bytes_stored": manifest["bytes_stored"],
                "dirty_bytes": manifest["dirty_bytes"],
                "duration_seconds": manifest["duration_seconds"],
                "manifest_sha256": stored.manifest_sha256,
                # Called only where a row is made.
                "referenced_bytes": cast(Any, lambda: quotas.referenced_bytes(stored)),
                "teams_then": [str(team) for team in vm.teams.values_list("uuid", flat=True)] if job else [],
            },
        )
        if made:
            RestorePointDisk.objects.bulk_create(
                _disk_row(point, position, disk, manifest["indexes"][disk["disk_id"]])
                for position, disk in enumerate(manifest["disks"])
            )
        if made and job is not None:
            Job.objects.filter(pk=job.pk).update(method=point.method, mode=point.mode)
            _announce_point(point, job)
    return point


def _announce_point(point: RestorePoint, job: Job) -> None:
    """Only what this portal has just made: an imported point is no news."""
    told = {
        "id": str(point.uuid),
        "taken_at": point.taken_at.isoformat(),
        "mode": point.mode,
        "method": point.method,
        "consistency": point.consistency,
        "size_bytes": point.size_bytes,
        "repository": {"id": str(point.repository.uuid), "name": point.repository.name},
        "url": point.get_absolute_url(),
    }
    data = {**announce.facts(job), "restore_point": told}
    events.emit(EventKind.POINT_CREATED, vm=point.vm, job=job, data=data)


def _excluded(told: Any) -> list[dict[str, str]]:
    """Disks that were left out, and why; a manifest of strangers may say anything there."""
    disks = [disk for disk in told if isinstance(disk, dict)] if isinstance(told, list) else []
    keys = ("disk_id", "alias", "reason")
    return [{key: _plain(disk.get(key), 255) for key in keys} for disk in disks[:1000]]


def _plain(told: Any, most: int) -> str:
    return told[:most].replace("\0", "\ufffd") if isinstance(told, str) else ""


def _disk_row(
    point: RestorePoint, position: int, disk: dict[str, Any], index: dict[str, Any]
) -> RestorePointDisk:
    return RestorePointDisk(
        point=point,
        manager_id=disk["disk_id"],
        position=position,
        index_file=f"{disk['disk_id']}.caibx",
        chunk_size=index["chunk_size_bytes"],
        digest=index["digest"],
        **{
            key: disk[key]
            for key in (
                "alias",
                "size_bytes",
                "format",
                "bootable",
                "mode",
                "reason",
                "bytes_read",
                "bytes_stored",
                "dirty_bytes",
            )
        },
    )


def verify_restore_point(
    *,
    actor: Any,
    point: RestorePoint,
    requested_for: str = "",
    ticket: str = "",
    reason: str = "",
    via: str = Job.Via.PAGE,
) -> Job:
    """Order a re-hash of every chunk of the point."""
    access.require(actor, point.vm, Capability.VERIFY)
    return jobs.order_job(
        "point.verify",
        actor=actor,
        via=via,
        about=point,
        kind="point_verify",
        task=VERIFY_TASK,
        title=f"Verify the restore point of {point}",
        locks=[locks.shared(point.lock_key), locks.shared(f"repository:{point.repository.uuid}")],
        params={"point": str(point.uuid)},
        environment=point.vm.environment,
        vm=point.vm,
        subject_label=str(point),
        subject_url=point.get_absolute_url(),
        capability=Capability.VERIFY,
        requested_for=requested_for,
        ticket=ticket,
        reason=reason,
    )


def delete_restore_point(*, actor: Any, point: RestorePoint, reason: str, via: str = Job.Via.PAGE) -> None:
    """Move the point to the repository's trash and leave the row as a tombstone.

    Raises NotAllowed, PointHeld, PointPinned (for rules), PointInUse, StoreError.
    """
    access.require(actor, point.vm, Capability.DELETE_POINTS)
    if point.deleted_at is not None:
        return
    keeping.refuse_deletion(point, via=via)
    needs = Q(params__point=str(point.uuid)) | Q(resume_state__base_point=str(point.uuid))
    wanted = Job.objects.active().filter(needs).exists()
    if wanted or JobLock.objects.filter(key=point.lock_key).exists():
        raise PointInUse(
            "A job is reading this restore point or continues from it, so it was not deleted.",
            hint="Try again when it has ended.",
        )
    _trash(point, reason=reason, by=actor.get_username())
    with transaction.atomic():
        RestorePoint.objects.filter(pk=point.pk).update(
            deleted_at=timezone.now(), deleted_by=actor.get_username(), deleted_why=reason
        )
        rule = "retention" if via == Job.Via.SCHEDULE else "by hand"
        audit.record("point.delete", actor=actor, subject=point, via=via, rule=rule, reason=reason)


def _trash(point: RestorePoint, *, reason: str, by: str) -> None:
    """Raises PointNotFound, unless the point is in the trash already: then only the row was not written."""
    store = point.repository.open()
    try:
        store.trash_point(point.ref, reason=reason, by=by)
    except PointNotFound:
        store.open_ref(replace(point.ref, trashed=True))


def create_repository(*, actor: Any, name: str, path: Path, via: str = Job.Via.COMMAND) -> Repository:
    """Make an empty repository in an empty folder and its row; the first one is the default."""
    owner = actor.get_username() if actor is not None else "portal"
    store = Store.create(path, owner=owner)
    with transaction.atomic():
        repository = Repository.objects.create(
            uuid=store.uuid, name=name, path=str(path), is_default=not Repository.objects.exists()
        )
        audit.record("repository.create", actor=actor, subject=repository, via=via, path=str(path))
    return repository


def ensure_default_repository() -> Repository:
    """The repository in the data folder, for a portal without settings."""
    found = default_repository()
    if found is not None:
        return found
    return create_repository(actor=None, name="Data folder", path=settings.DATA_DIR / "repository")
