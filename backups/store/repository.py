# SPDX-License-Identifier: GPL-3.0-or-later
"""A repository: one folder with chunks, restore points, a trash, and what a person needs without this program."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from backups.store.chunks import ChunkStore
from backups.store.durable import make_directory, server_now, sync_directory, write_file
from backups.store.errors import (
    PointExists,
    PointHeld,
    PointNotFound,
    RepositoryBusy,
    RepositoryMismatch,
    RepositoryMissing,
    RepositoryUnsupported,
    StoreError,
    storage_errors,
)
from backups.store.marks import MARKS, MarksFile, read_marks
from backups.store.names import checked_uuid, is_uuid_name
from backups.store.points import PARTIAL, SOURCE, StagedPoint, remove_tree
from backups.store.stored import INDEX, MANIFEST, PUBLISHED, StoredPoint, file_sha256

FORMAT_VERSION = 1
DESCRIPTION = "repository.json"
DESCRIPTION_LIMIT = 65536
DEFAULT_GC_AGE_SECONDS = 7 * 24 * 3600
LEASE = "gc.lease"
UNFINISHED = (PARTIAL, SOURCE)
LEASE_SECONDS = 3600
FOLDERS = ("chunks", "points", "archives", "trash", "trash/points", "quarantine", "tmp")
TEXTS = ("README.txt", "restore.py")
README = """\
This folder is a backup repository of virtual machines. Nothing but this folder is needed to read it.

points/<environment>/<virtual machine>/<restore point>/
    manifest.json    what was backed up and when; a restore point without it is unfinished, leave it alone
    <disk>.caibx     one disk: the list of its chunks, in casync's format
    vm.ovf, vm.xml   the virtual machine's configuration
chunks/              the content, compressed with zstd; every file is named by the SHA-256 of what is in it

To get a disk back as a raw image, in this folder:

    casync extract --store=chunks points/.../<disk>.caibx disk.raw

or, with nothing but Python 3 and the program zstd:

    python3 restore.py points/.../<disk>.caibx disk.raw

Then, for example: qemu-img convert -O qcow2 disk.raw disk.qcow2
"""


@dataclass(frozen=True)
class PointRef:
    """Where a restore point is: environment, the Manager's id of the VM, the point; in the trash or not."""

    environment_uuid: str
    vm_id: str
    point_uuid: str
    trashed: bool = False


class Repository:
    """An opened repository; cheap to open, holds no files. `path`, `uuid`, `chunks` are its parts."""

    def __init__(self, path: Path, *, uuid: UUID, gc_age_seconds: float) -> None:
        self.path = path
        self.uuid = uuid
        self.gc_age_seconds = gc_age_seconds
        self.chunks = ChunkStore(path, touch_after_seconds=gc_age_seconds / 2)

    @classmethod
    def create(cls, path: Path, *, owner: str, gc_age_seconds: float = DEFAULT_GC_AGE_SECONDS) -> Repository:
        """Make a repository in an empty folder (made if its parent exists). `owner` is a word for people.

        `gc_age_seconds`: unused chunks younger than this are never collected; longer than the longest job.
        Raises StoreError if the folder has anything in it (but `lost+found`).
        """
        with storage_errors("creating a repository"):
            path.mkdir(mode=0o750, exist_ok=True)
            if {each.name for each in path.iterdir()} - {"lost+found"}:
                raise StoreError(
                    f"{path} is not empty, so no repository was made in it.",
                    hint="Choose an empty folder, or add the repository that is there already.",
                )
            for name in FOLDERS:
                make_directory(path / name)
            write_file(path / "README.txt", README.encode())
            script = Path(__file__).with_name("standalone_restore.py").read_bytes()
            write_file(path / "restore.py", script)
            found = {
                "uuid": str(uuid.uuid4()),
                "format": FORMAT_VERSION,
                "requires": [],
                "encryption": "none",
                "gc_age_seconds": gc_age_seconds,
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "owner": owner,
                "files": {name: file_sha256(path / name) for name in TEXTS},
            }
            found["checksum"] = _checksum(found)
            # Last, so that a repository half made is none.
            write_file(path / DESCRIPTION, json.dumps(found, indent=2).encode() + b"\n")
        return cls.open(path, expected_uuid=None)

    @classmethod
    def open(cls, path: Path, *, expected_uuid: UUID | None) -> Repository:
        """Open the repository in `path`; with `expected_uuid` it must be that one.

        Raises RepositoryMissing, RepositoryMismatch, RepositoryUnsupported.
        """
        found = _read_description(path)
        repository = cls(path, uuid=found.uuid, gc_age_seconds=found.gc_age_seconds)
        if expected_uuid is not None and found.uuid != expected_uuid:
            raise RepositoryMismatch(
                f"{path} holds repository {found.uuid}, not {expected_uuid}; nothing was written.",
                hint="Look whether the right share is mounted there.",
            )
        return repository

    def check(self) -> None:
        """Make sure that the same repository is still there. Raises as `open` does."""
        Repository.open(self.path, expected_uuid=self.uuid)

    def space(self) -> tuple[int, int]:
        """(total, free) bytes of the file system, free as an ordinary user sees it."""
        with storage_errors("asking for free space"):
            found = os.statvfs(self.path)
        return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize

    def server_now(self) -> float:
        """Seconds since the epoch by the clock of the repository's file server."""
        with storage_errors("asking the file server's clock"):
            return server_now(self.path / "tmp")

    def changed_files(self) -> list[str]:
        """Names of the texts for people beside `repository.json` that are not as they were written, or are gone."""
        promised = _read_description(self.path).files
        with storage_errors("reading the repository's own files"):
            return [name for name, sha256 in promised.items() if _sha256_or_none(self.path / name) != sha256]

    def point_dir(
        self,
        environment_uuid: UUID | str,
        vm_id: UUID | str,
        point_uuid: UUID | str,
        *,
        trashed: bool = False,
    ) -> Path:
        """Folder of a restore point, existing or not. All three names are UUIDs; StoreError otherwise."""
        names = [checked_uuid(name) for name in (environment_uuid, vm_id, point_uuid)]
        return self._points(trashed).joinpath(*names)

    def stage_point(
        self, environment_uuid: UUID | str, vm_id: UUID | str, point_uuid: UUID | str
    ) -> StagedPoint:
        """Begin a restore point, or go on with one that a crash left unfinished. Raises PointExists."""
        self.check()
        folder = self.point_dir(environment_uuid, vm_id, point_uuid)
        with storage_errors("making a restore point's folder"):
            if (folder / MANIFEST).exists():
                raise PointExists(f"Restore point {point_uuid} is published already and stays as it is.")
            for each in (folder.parent.parent, folder.parent, folder):
                make_directory(each)
        names = {"environment": folder.parent.parent.name, "vm": folder.parent.name, "point": folder.name}
        return StagedPoint(folder, self, names)

    def points(
        self,
        environment_uuid: UUID | str | None = None,
        vm_id: UUID | str | None = None,
        *,
        trashed: bool = False,
    ) -> Iterator[PointRef]:
        """Published points, of one environment or VM if given; with `trashed` those in the trash instead."""
        with storage_errors("listing restore points"):
            refs = list(self.all_point_folders(trashed=trashed))
        for ref in refs:
            if environment_uuid is not None and ref.environment_uuid != checked_uuid(environment_uuid):
                continue
            if vm_id is not None and ref.vm_id != checked_uuid(vm_id):
                continue
            if (self.folder_of(ref) / MANIFEST).exists():
                yield ref

    def all_point_folders(self, *, trashed: bool = False) -> Iterator[PointRef]:
        """Every restore point's folder, also the unfinished ones (those without a manifest).

        Raises FileNotFoundError if something is moved meanwhile.
        """
        top = self._points(trashed)
        for environment in _uuid_names(top):
            for vm in _uuid_names(top / environment):
                for point in _uuid_names(top / environment / vm):
                    yield PointRef(environment, vm, point, trashed)

    def strangers(self) -> Iterator[tuple[str, str]]:
        """(path in the repository, why) of what lies under the points, here or in the trash, and is none."""
        with storage_errors("listing restore points"):
            for trashed in (False, True):
                yield from self._strange_names(self._points(trashed), 3)
                for ref in self.all_point_folders(trashed=trashed):
                    if not self.has_point(ref):
                        yield self._shown(self.folder_of(ref)), "It was never finished."

    def _strange_names(self, folder: Path, depth: int) -> Iterator[tuple[str, str]]:
        for path in sorted(folder.iterdir()):
            if not is_uuid_name(path.name):
                yield self._shown(path), "Nothing in a repository bears such a name."
            elif path.is_symlink() or not path.is_dir():
                yield self._shown(path), "It is not a folder."
            elif depth > 1:
                yield from self._strange_names(path, depth - 1)

    def _shown(self, path: Path) -> str:
        return str(path.relative_to(self.path))[:300]

    def open_point(
        self,
        environment_uuid: UUID | str,
        vm_id: UUID | str,
        point_uuid: UUID | str,
        *,
        trashed: bool = False,
    ) -> StoredPoint:
        """A published point with its manifest read and checked. Raises PointNotFound, PointCorrupt."""
        folder = self.point_dir(environment_uuid, vm_id, point_uuid, trashed=trashed)
        if not (folder / MANIFEST).exists():
            self.check()
            raise PointNotFound(f"There is no restore point {point_uuid} in the repository.")
        return StoredPoint(folder, self)

    def open_ref(self, ref: PointRef) -> StoredPoint:
        return self.open_point(ref.environment_uuid, ref.vm_id, ref.point_uuid, trashed=ref.trashed)

    def has_point(self, ref: PointRef) -> bool:
        """True if the point is published and lies where `ref` says."""
        with storage_errors("looking for a restore point"):
            return (self.folder_of(ref) / MANIFEST).exists()

    def lost_manifest(self, ref: PointRef) -> bool:
        """True if the folder is there and looks like that of a point that was published, but for its manifest.

        Publishing leaves `.source` files until the manifest is written; whoever removes a point removes its indexes
        first, and says so in its marks if it was published.
        """
        folder = self.folder_of(ref)
        with storage_errors("looking for a manifest"), contextlib.suppress(FileNotFoundError):
            names = [path.name for path in folder.iterdir()]
            if MANIFEST in names or any(name.endswith(UNFINISHED) for name in names):
                return False
            said = {mark["kind"] for mark in read_marks(folder).good}
            was_one = PUBLISHED in said or any(name.endswith(INDEX) for name in names)
            return was_one and "purged" not in said
        return False

    def folder_of(self, ref: PointRef) -> Path:
        return self.point_dir(ref.environment_uuid, ref.vm_id, ref.point_uuid, trashed=ref.trashed)

    def trash_point(self, ref: PointRef, *, reason: str, by: str) -> PointRef:
        """Move a published point to the trash, where it keeps its chunks. Raises PointNotFound, PointHeld."""
        return self._move(ref, to_trash=True, mark={"kind": "trashed", "reason": reason, "by": by})

    def undelete_point(self, ref: PointRef, *, by: str) -> PointRef:
        """Take a point back out of the trash. Raises PointNotFound; RepositoryBusy during garbage collection."""
        lease = self.path / LEASE
        with contextlib.suppress(FileNotFoundError):
            if self.server_now() - lease.stat().st_mtime < LEASE_SECONDS:
                raise RepositoryBusy(
                    "A garbage collection is running, so the restore point was left in the trash.",
                    hint="Try again when it has ended.",
                )
        return self._move(ref, to_trash=False, mark={"kind": "undeleted", "by": by})

    def mark_point(self, ref: PointRef, kind: str, **facts: Any) -> None:
        """Append a mark to a published point, wherever it lies: `ref.trashed` is only where to look first.

        Raises PointNotFound, also if the trash is being emptied of it at this moment.
        """
        self.check()
        for trashed in (ref.trashed, not ref.trashed):
            folder = self.folder_of(replace(ref, trashed=trashed))
            if not (folder / MANIFEST).exists():
                continue
            with MarksFile(folder) as marks:
                # Asked again under the lock: purging removes the manifest under it.
                if (folder / MANIFEST).exists():
                    marks.append(kind, **facts)
                    return
        raise PointNotFound(f"There is no restore point {ref.point_uuid} in the repository.")

    def purge_trash(self, *, older_than_seconds: float, keep: Collection[str] = ()) -> list[PointRef]:
        """Remove for good what has lain in the trash longer than the grace period; returns what was removed.

        Held points stay, and those whose uuids are in `keep`. Chunks stay until the next garbage collection.
        """
        self.check()
        limit = self.server_now() - older_than_seconds
        gone = []
        with storage_errors("listing the trash"):
            refs = list(self.all_point_folders(trashed=True))
        for ref in refs:
            if ref.point_uuid in keep:
                continue
            folder = self.folder_of(ref)
            with storage_errors("emptying the trash"):
                # The move into the trash appended to the marks, so their time stamp is the server's time of it.
                marks = folder / MARKS
                if (marks if marks.exists() else folder).stat().st_mtime < limit and _give_up(folder):
                    remove_tree(folder)
                    gone.append(ref)
        return gone

    def remove_unfinished(self, *, older_than_seconds: float, keep: Collection[str] = ()) -> list[PointRef]:
        """Remove points that were begun and that nobody has touched for so long, but those named in `keep`.

        Raises ValueError for an age below the repository's own limit, which is longer than any job.
        """
        if older_than_seconds < self.gc_age_seconds:
            raise ValueError(f"what is younger than {self.gc_age_seconds} s may belong to a running backup")
        self.check()
        limit = self.server_now() - older_than_seconds
        gone = []
        with storage_errors("removing what was never finished"):
            for ref in list(self.all_point_folders()):
                folder = self.folder_of(ref)
                with contextlib.suppress(FileNotFoundError):
                    if (
                        ref.point_uuid not in keep
                        and _is_left_behind(folder, limit)
                        and not self.lost_manifest(ref)
                    ):
                        remove_tree(folder)
                        gone.append(ref)
        return gone

    def _move(self, ref: PointRef, *, to_trash: bool, mark: dict[str, str]) -> PointRef:
        self.check()
        origin = self.point_dir(ref.environment_uuid, ref.vm_id, ref.point_uuid, trashed=not to_trash)
        target = self.point_dir(ref.environment_uuid, ref.vm_id, ref.point_uuid, trashed=to_trash)
        if not (origin / MANIFEST).exists():
            place = "in the repository" if to_trash else "in the trash"
            raise PointNotFound(f"There is no restore point {ref.point_uuid} {place}.")
        with storage_errors("moving a restore point"):
            if target.exists():
                raise PointExists(f"Restore point {ref.point_uuid} is at its new place already.")
            make_directory(target.parent.parent)
            make_directory(target.parent)
            with MarksFile(origin) as marks:
                if to_trash:
                    _refuse_if_held(origin, marks)
                marks.append(**mark)
                origin.rename(target)
            sync_directory(target.parent)
            sync_directory(origin.parent)
        return PointRef(ref.environment_uuid, ref.vm_id, ref.point_uuid, to_trash)

    def _points(self, trashed: bool) -> Path:
        return self.path / "trash" / "points" if trashed else self.path / "points"


@dataclass(frozen=True)
class _Description:
    uuid: UUID
    gc_age_seconds: float
    files: dict[str, str]


def _checksum(description: dict[str, Any]) -> str:
    """SHA-256 over everything else in the description, as JSON with sorted keys and no spaces."""
    others = {key: value for key, value in description.items() if key != "checksum"}
    text = json.dumps(others, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _sha256_or_none(path: Path) -> str | None:
    with contextlib.suppress(FileNotFoundError, IsADirectoryError):
        return file_sha256(path)
    return None


def _refuse_if_held(folder: Path, marks: MarksFile) -> None:
    standing = marks.read().standing()
    if standing.held is not None:
        raise PointHeld(
            f"A legal hold lies on restore point {folder.name}"
            f" ({str(standing.held.get('reason', ''))[:300]}), so it stays where it is.",
            hint="Release the hold first, if you may.",
        )
    if standing.hold_uncertain:
        raise PointHeld(
            f"A line in the marks of restore point {folder.name} is damaged and may have been a legal hold, "
            "so it stays where it is.",
            hint="Release the hold to say that there is none, then delete the point.",
        )


def _give_up(folder: Path) -> bool:
    """Remove the manifest of a trashed point, unless it is held; from then on the point is no more."""
    if not (folder / MANIFEST).exists():
        # Half removed, or it has lost its manifest: its disks may still be read by hand, which a hold is for.
        found = read_marks(folder)
        return any(mark["kind"] == "purged" for mark in found.good) or not found.standing().may_be_held
    with MarksFile(folder) as marks:
        if marks.read().standing().may_be_held:
            return False
        marks.append("purged")
        (folder / MANIFEST).unlink(missing_ok=True)
        return True


def _is_left_behind(folder: Path, limit: float) -> bool:
    """True for a folder without a manifest in which nothing has been written since `limit`."""
    if (folder / MANIFEST).exists():
        return False
    newest = max(path.lstat().st_mtime for path in (folder, *folder.iterdir()))
    # Published meanwhile, perhaps: looked at last.
    return newest < limit and not (folder / MANIFEST).exists()


def _uuid_names(folder: Path) -> list[str]:
    with contextlib.suppress(NotADirectoryError):
        return sorted(path.name for path in folder.iterdir() if is_uuid_name(path.name))
    return []


def _read_description(path: Path) -> _Description:
    try:
        with (path / DESCRIPTION).open("rb") as file:
            raw = file.read(DESCRIPTION_LIMIT)
    except (FileNotFoundError, NotADirectoryError):
        raise RepositoryMissing(
            f"There is no repository in {path}; nothing was written there.",
            hint="Look whether the share is mounted. A repository is only made when you ask for a new one.",
        ) from None
    except OSError as error:
        raise StoreError(
            f"The repository in {path} cannot be read: {error.strerror}.",
            hint="Look at the storage, then retry.",
        ) from error
    try:
        found = json.loads(raw)
        version, requires, encryption = found["format"], found["requires"], found.get("encryption", "none")
        gc_age = float(found.get("gc_age_seconds", DEFAULT_GC_AGE_SECONDS))
        if not 0 <= gc_age < 1e9:
            raise ValueError("gc_age_seconds is no such age")
        if found.get("checksum", _checksum(found)) != _checksum(found):
            raise ValueError("its checksum is wrong")
        files = {
            name: str(found.get("files", {}).get(name)) for name in found.get("files", {}) if name in TEXTS
        }
        description = _Description(UUID(found["uuid"]), gc_age, files)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RepositoryUnsupported(f"{path / DESCRIPTION} is damaged or not a repository's.") from error
    if version != FORMAT_VERSION or requires != [] or encryption != "none":
        raise RepositoryUnsupported(
            f"The repository in {path} has format {version}, needs {requires!r}, encryption {encryption!r}; "
            f"this version knows format {FORMAT_VERSION} without any of them.",
            hint="Use a newer version of the portal.",
        )
    return description
