# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows made from the files of a repository alone. The files may come from anywhere, so nothing in them is trusted."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.db import DataError, transaction
from django.utils import timezone

from backups import anchoring, services, upkeep
from backups.errors import ImportRefused
from backups.models import OTHER_MANIFEST, Repository, RestorePoint
from backups.store.errors import PointCorrupt, StoreError
from backups.store.marks import Mark, Standing
from backups.store.repository import PointRef
from backups.store.repository import Repository as Store
from backups.store.stored import StoredPoint
from portal.audit import services as audit
from portal.environments.models import Environment, VirtualMachine
from portal.jobs.models import Job

MAX_NUMBER = 1 << 62
MAX_TEXT = 10_000
MAX_YEAR = 3000
# Keys of a manifest that rows are made from: texts with the most characters that their column takes.
_TEXTS = {"taken_at": 40, "method": 30, "mode": 20, "reason": MAX_TEXT}
_NUMBERS = ("bytes_read", "bytes_stored")
_DISK_TEXTS = {"disk_id": 36, "alias": 255, "format": 10, "mode": 20, "reason": MAX_TEXT}
_DISK_NUMBERS = ("size_bytes", "bytes_read", "bytes_stored")


@dataclass
class ImportReport:
    """`points`: made or brought up to date; `made`: how many of them are new. `left_out`: path → why, in words."""

    repository: Repository
    points: int = 0
    made: int = 0
    in_trash: int = 0
    held: int = 0
    pinned: int = 0
    damaged: int = 0
    environments: set[str] = field(default_factory=set)
    placeholders: set[str] = field(default_factory=set)
    machines: set[int] = field(default_factory=set)
    left_out: dict[str, str] = field(default_factory=dict)


def import_repository(
    *,
    path: Path,
    name: str = "",
    environments: Mapping[str, Environment] | None = None,
    actor: Any = None,
    via: str = Job.Via.COMMAND,
) -> ImportReport:
    """Make rows of everything that lies in the repository in `path`; safe to repeat.

    `environments`: the Managers of today for environment uuids in the repository, where they were added anew.
    For others that are unknown a placeholder without an address is made. What cannot be trusted or read is left
    out, and the report says why. Raises ImportRefused, StoreError.
    """
    store = Store.open(path, expected_uuid=None)
    report = ImportReport(_repository_row(store, path, name))
    for place, why in store.strangers():
        report.left_out[place] = why
    for trashed in (False, True):
        for ref in store.points(trashed=trashed):
            place = str(store.folder_of(ref).relative_to(store.path))
            try:
                _import_point(store, ref, environments or {}, report)
            except (StoreError, ImportRefused) as error:
                report.left_out[place] = str(error)
    audit.record(
        "repository.import",
        actor=actor,
        subject=report.repository,
        via=via,
        path=str(path),
        points=report.points,
        left_out=len(report.left_out),
    )
    anchoring.take_up(report.repository, actor=actor, via=via)
    upkeep.measure(report.repository)
    return report


def _repository_row(store: Store, path: Path, name: str) -> Repository:
    row = Repository.objects.filter(uuid=store.uuid).first()
    if row is None:
        wanted = name or _free_name(f"Imported {path.name}"[:110], Repository)
        if Repository.objects.filter(name=wanted).exists():
            raise ImportRefused(
                f"There is a repository called {wanted} already.", hint="Choose another --name."
            )
        if Repository.objects.filter(path=str(path)).exists():
            raise ImportRefused(f"Another repository is known in {path}, which is no longer there.")
        return Repository.objects.create(
            uuid=store.uuid, name=wanted, path=str(path), is_default=not Repository.objects.exists()
        )
    if row.path != str(path):
        if _is_still_there(row):
            raise ImportRefused(
                f"Repository {row.name} is known in {row.path} and is still there, so this is a copy of it.",
                hint="Take one of the two away: two copies would drift apart.",
            )
        row.path = str(path)
        row.save(update_fields=["path"])
    return row


def _is_still_there(row: Repository) -> bool:
    try:
        row.open()
    except StoreError:
        return False
    return True


def _import_point(
    store: Store, ref: PointRef, environments: Mapping[str, Environment], report: ImportReport
) -> None:
    _refuse_links(store, ref)
    stored = store.open_ref(ref)
    _check_manifest(stored.manifest, store)
    known = RestorePoint.objects.filter(uuid=ref.point_uuid).select_related("repository").first()
    if known is not None and known.repository_id != report.repository.pk:
        raise ImportRefused(f"A restore point of this uuid is known in repository {known.repository.name}.")
    try:
        with transaction.atomic():
            vm = _machine(stored, ref, environments, report)
            point = services.record_point(report.repository, vm, stored, None)
            _mirror(point, vm, ref, stored, report)
    except (DataError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise PointCorrupt(f"The manifest cannot be taken over ({type(error).__name__}).") from error
    report.points += 1
    report.made += known is None
    report.in_trash += ref.trashed
    report.machines.add(vm.pk)


def _refuse_links(store: Store, ref: PointRef) -> None:
    """Nothing on the way to a point, and nothing in it, may lead out of the repository."""
    folder = store.folder_of(ref)
    for path in (folder.parent.parent, folder.parent, folder, *folder.iterdir()):
        if path.is_symlink():
            raise PointCorrupt(f"{path.name[:80]!r} is a link.")


def _machine(
    stored: StoredPoint, ref: PointRef, environments: Mapping[str, Environment], report: ImportReport
) -> VirtualMachine:
    """The VM, as a row that waits for its Manager if it is not known."""
    environment = environments.get(ref.environment_uuid) or _environment(stored, ref, report)
    report.environments.add(environment.name)
    machine = stored.manifest["machine"]
    taken_at = dt.datetime.fromisoformat(stored.manifest["taken_at"])
    vm, made = VirtualMachine.objects.get_or_create(
        environment=environment,
        manager_id=ref.vm_id,
        defaults={
            "name": machine["name"][:255],
            "status": "gone",
            "seen_at": taken_at,
            "gone_at": timezone.now(),
        },
    )
    if not made and vm.gone_at is not None and vm.seen_at < taken_at:
        VirtualMachine.objects.filter(pk=vm.pk).update(name=machine["name"][:255], seen_at=taken_at)
    return vm


def _environment(stored: StoredPoint, ref: PointRef, report: ImportReport) -> Environment:
    found = Environment.objects.filter(uuid=ref.environment_uuid).first()
    if found is None:
        told = stored.manifest.get("environment_name")
        name = told if isinstance(told, str) and told.strip() and told.isprintable() else "Unknown Manager"
        found = Environment.objects.create(
            uuid=uuid.UUID(ref.environment_uuid),
            name=_free_name(name[:110], Environment),
            problem="Known only from an imported repository. Add the Manager, then import again with "
            "--environment to attach the restore points to it.",
        )
        report.placeholders.add(found.name)
    return found


def _mirror(
    point: RestorePoint, vm: VirtualMachine, ref: PointRef, stored: StoredPoint, report: ImportReport
) -> None:
    """What the marks say, and where the point lies: the files are the truth, whatever the row said before."""
    standing = stored.standing()
    same = uuid.UUID(ref.environment_uuid) == vm.environment.uuid
    values: dict[str, Any] = {
        "vm": vm,
        "stored_environment": None if same else ref.environment_uuid,
        "purged_at": None,
        **_deleted(ref, standing),
    }
    # Of marks that were lost the row may be the last witness: then it keeps its word.
    lost = stored.damaged_marks() > 0
    for mark, word in ((standing.pinned, "pinned"), (standing.held, "held")):
        if mark is not None or not lost:
            values |= _who(mark, word)
    problem = _problem(point, stored, standing)
    # A damage that was found here stays until a verification here finds the point whole.
    if problem or not point.verify_problem:
        values["verify_problem"] = problem
    if standing.verified is not None and not problem and point.verified_at is None:
        values["verified_at"] = _moment(standing.verified)
    RestorePoint.objects.filter(pk=point.pk).update(**values)
    report.pinned += standing.pinned is not None
    report.held += standing.held is not None
    report.damaged += bool(problem)


def _who(mark: Mark | None, word: str) -> dict[str, Any]:
    if mark is None:
        return {f"{word}_at": None, f"{word}_by": "", f"{word}_why": ""}
    return {
        f"{word}_at": _moment(mark),
        f"{word}_by": _text(mark, "by", 150),
        f"{word}_why": _text(mark, "reason", MAX_TEXT),
    }


def _deleted(ref: PointRef, standing: Standing) -> dict[str, Any]:
    """By the place where the point lies; the mark says when and why."""
    if not ref.trashed:
        return {"deleted_at": None, "deleted_by": "", "deleted_why": ""}
    return {
        **_who(standing.trashed, "deleted"),
        "deleted_at": _moment(standing.trashed) if standing.trashed else timezone.now(),
    }


def _problem(point: RestorePoint, stored: StoredPoint, standing: Standing) -> str:
    """Cheap to see now; a verification finds the rest."""
    if standing.damaged is not None:
        return _text(standing.damaged, "problem", 1000) or "Found damaged before it was imported."
    if stored.manifest_sha256 != point.manifest_sha256:
        return OTHER_MANIFEST
    return "" if stored.manifest_is_as_published() else "manifest.json was changed after it was published."


def _moment(mark: Mark) -> dt.datetime:
    found = _parsed(mark["at"]) or timezone.now()
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def _text(mark: Mark, key: str, most: int) -> str:
    found = mark.get(key)
    return found[:most].replace("\0", "\ufffd") if isinstance(found, str) else ""


def _free_name(name: str, model: type[Repository] | type[Environment]) -> str:
    taken = set(model.objects.filter(name__startswith=name).values_list("name", flat=True))
    names = [name, *(f"{name} ({number})" for number in range(2, len(taken) + 3))]
    return next(each for each in names if each not in taken)


# --- manifests of strangers ---------------------------------------------------------------------------------


def _check_manifest(manifest: dict[str, Any], store: Store) -> None:
    """Everything that rows are made from, and what a restore reads, is of the kind that it should be.

    Raises PointCorrupt.
    """
    if manifest.get("repository") != str(store.uuid):
        raise PointCorrupt("The point was made in another repository.")
    _check_object(manifest, _TEXTS, _NUMBERS)
    moment = _parsed(manifest["taken_at"])
    if moment is None or moment.tzinfo is None:
        raise PointCorrupt("The manifest has a wrong taken_at.")
    seconds = manifest.get("duration_seconds")
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 <= seconds < MAX_NUMBER:
        raise PointCorrupt("The manifest has a wrong duration_seconds.")
    if manifest["mode"] not in RestorePoint.Mode.values:
        raise PointCorrupt("The manifest has a wrong mode.")
    for key in ("checkpoint_id", "from_checkpoint_id"):
        _require(manifest.get(key) is None or _is_uuid(manifest[key]), key)
    _check_dirty(manifest)
    machine, consistency = manifest.get("machine"), manifest.get("consistency")
    _require(isinstance(machine, dict) and isinstance(consistency, dict), "machine or consistency")
    assert isinstance(machine, dict) and isinstance(consistency, dict)
    _check_object(machine, {"name": MAX_TEXT, "status": 40})
    _check_object(consistency, {"level": 20})
    disks = manifest.get("disks")
    _require(isinstance(disks, list) and all(isinstance(disk, dict) for disk in disks), "disks")
    assert isinstance(disks, list)
    for disk in disks:
        _check_object(disk, _DISK_TEXTS, _DISK_NUMBERS)
        _require(isinstance(disk.get("bootable"), bool), "bootable")
        _require(disk["mode"] in RestorePoint.Mode.values, "mode")
        _check_dirty(disk)
        size = manifest["indexes"].get(disk["disk_id"], {}).get("size_bytes")
        _require(size == disk["size_bytes"], "size_bytes of a disk")
    _require(
        len({disk["disk_id"] for disk in disks}) == len(disks) == len(manifest["indexes"]), "list of disks"
    )


def _check_object(found: dict[str, Any], texts: Mapping[str, int], numbers: tuple[str, ...] = ()) -> None:
    for key, most in texts.items():
        value = found.get(key)
        _require(isinstance(value, str) and len(value) <= most and "\0" not in value, key)
    for key in numbers:
        _require(_is_number(found.get(key)), key)


def _check_dirty(found: dict[str, Any]) -> None:
    _require(found.get("dirty_bytes") is None or _is_number(found["dirty_bytes"]), "dirty_bytes")


def _require(good: bool, key: str) -> None:
    if not good:
        raise PointCorrupt(f"The manifest has a wrong {key}.")


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_NUMBER


def _is_uuid(value: object) -> bool:
    try:
        uuid.UUID(str(value))
    except ValueError:
        return False
    return isinstance(value, str)


def _parsed(text: str) -> dt.datetime | None:
    """None for what is no moment, or one so far away that a page could not reckon with it."""
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if 1970 < found.year < MAX_YEAR else None
