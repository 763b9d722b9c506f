# SPDX-License-Identifier: GPL-3.0-or-later
"""Hurting a repository at random, and telling by other means than verify what was hurt."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import zstandard
from hypothesis import strategies as st

from backups.store import PointRef, Repository
from backups.store.manifest import HEX_SHA256
from tests.store.support import ENVIRONMENT, MIB, VM, content_of, publish_point, ref_of

OTHER_DISK = "c0ffee00-1111-4222-8333-444455557777"


def make_template(folder: Path) -> Path:
    """Three points that share chunks, one of two disks, one with marks, one in the trash; and an unused chunk."""
    repository = Repository.create(folder, owner="tests", gc_age_seconds=3600)
    first = text_of(1) + text_of(2)
    publish_point(repository, first + bytes(MIB), point="11111111-0000-4000-8000-000000000001")
    second = publish_point(repository, first + text_of(3), point="11111111-0000-4000-8000-000000000002")
    second.mark("pinned", by="alice", reason="before the upgrade")
    second.mark("held", by="alice", reason="case 4711")
    third = publish_point(repository, text_of(2) + text_of(4), point="11111111-0000-4000-8000-000000000003")
    repository.trash_point(ref_of(third), reason="too old", by="policy")
    unused = publish_point(repository, text_of(5), point="11111111-0000-4000-8000-000000000004")
    shutil.rmtree(unused.folder)
    return folder


def text_of(seed: int) -> bytes:
    """A mebibyte that compresses to some hundred bytes: the fewer there are, the more of them get hit."""
    return content_of(2 * MIB, seed=seed)[MIB:]


@dataclass(frozen=True)
class World:
    """The repository before it was hurt: content of each file and, for each point, its folder and chunk files."""

    files: dict[str, bytes]
    points: dict[PointRef, tuple[str, frozenset[str]]]

    @classmethod
    def of(cls, path: Path) -> "World":
        repository = Repository.open(path, expected_uuid=None)
        points = {}
        for trashed in (False, True):
            for ref in repository.points(trashed=trashed):
                point = repository.open_ref(ref)
                ids = {each for disk in point.disk_ids for each in list(point.index(disk))}
                chunks = frozenset(str(repository.chunks.path(each).relative_to(path)) for each in ids)
                points[ref] = (str(point.folder.relative_to(path)), chunks)
        return cls(read_all(path), points)


def read_all(path: Path) -> dict[str, bytes]:
    return {
        str(each.relative_to(path)): each.read_bytes() for each in sorted(path.rglob("*")) if each.is_file()
    }


@dataclass(frozen=True)
class Damage:
    """What is hurt, found by comparing with the world before.

    `forgotten`: points of which manifest, indexes and marks are gone or changed at once, so that the files no longer
    say that there was one: only the portal's rows do.
    `bad_chunks`: those with wrong content. `gone_chunks`: those that are not there though a point needs them.
    """

    points: frozenset[PointRef]
    forgotten: frozenset[PointRef]
    bad_chunks: frozenset[str]
    gone_chunks: frozenset[str]
    marks: frozenset[PointRef]
    texts: frozenset[str]
    description: bool


def damage(before: World, path: Path) -> Damage:
    now = read_all(path)
    spoilt = {
        name
        for name, raw in before.files.items()
        if name.startswith("chunks/") and not same_chunk(raw, now.get(name))
    }
    strange = {
        name for name in now if is_chunk(name) and name not in before.files and not good_name(name, now[name])
    }
    needed = {name for _, chunks in before.points.values() for name in chunks}
    points, marks, forgotten = set(), set(), set()
    for ref, (folder, chunks) in before.points.items():
        own = {name: raw for name, raw in before.files.items() if name.startswith(f"{folder}/")}
        if chunks & spoilt or any(now.get(name) != raw for name, raw in own.items() if "marks" not in name):
            points.add(ref)
        if lost_marks(own[f"{folder}/marks.jsonl"], now.get(f"{folder}/marks.jsonl")):
            marks.add(ref)
            kept = [name for name in own if name in now and name.endswith((".caibx", "manifest.json"))]
            if not kept:
                forgotten.add(ref)
    texts = {name for name in ("README.txt", "restore.py") if now.get(name) != before.files[name]}
    return Damage(
        frozenset(points),
        frozenset(forgotten),
        frozenset(Path(name).stem for name in (spoilt & set(now)) | strange),
        frozenset(Path(name).stem for name in (spoilt - set(now)) & needed),
        frozenset(marks),
        frozenset(texts),
        told(now.get("repository.json")) != told(before.files["repository.json"]),
    )


def told(raw: bytes | None) -> object:
    """What a description says; spaces and the order of keys say nothing, nor does a checksum that is not there."""
    try:
        found = json.loads(raw or b"")
    except ValueError:
        return None
    return found


def is_chunk(name: str) -> bool:
    parts = Path(name).parts
    return (
        parts[0] == "chunks"
        and len(parts) == 3
        and name.endswith(".cacnk")
        and bool(HEX_SHA256.fullmatch(Path(name).stem))
        and parts[1] == parts[2][:4]
    )


def good_name(name: str, raw: bytes) -> bool:
    """A chunk under its own name."""
    import hashlib

    content = decoded(raw)
    return content is not None and hashlib.sha256(content).hexdigest() == Path(name).stem


def same_chunk(before: bytes, now: bytes | None) -> bool:
    """Other bits that decode to the very same content hurt nobody."""
    return now is not None and (
        now == before or (decoded(now) is not None and decoded(now) == decoded(before))
    )


def decoded(raw: bytes) -> bytes | None:
    """The one frame that the file is, by another way than the store's."""
    try:
        worker = zstandard.ZstdDecompressor().decompressobj()
        content = worker.decompress(raw)
        return content if worker.eof and not worker.unused_data else None
    except zstandard.ZstdError:
        return None


def lost_marks(before: bytes, now: bytes | None) -> bool:
    """Whether marks were changed in a way that shows in the file: all but losing whole lines at its end."""
    if now is None or not now:
        return True
    return now != before and not (before.startswith(now) and now.endswith(b"\n"))


# --- mutations ----------------------------------------------------------------------------------------------

KINDS = (
    "flip",
    "flip",
    "flip",
    "truncate",
    "delete",
    "append",
    "overwrite",
    "swap",
    "rename",
    "repeat line",
    "change value",
)


@st.composite
def mutations(draw, names: list[str]):
    """(kind, file, another file, a number): applied by `mutate`."""
    return (
        draw(st.sampled_from(KINDS)),
        draw(st.sampled_from(names)),
        draw(st.sampled_from(names)),
        draw(st.integers(0, 1 << 30)),
    )


def mutate(path: Path, kind: str, name: str, other: str, number: int) -> None:
    file = path / name
    if not file.exists():
        return
    raw = file.read_bytes()
    if kind == "flip" and raw:
        changed = bytearray(raw)
        changed[number // 8 % len(raw)] ^= 1 << (number % 8)
        file.write_bytes(changed)
    elif kind == "truncate":
        file.write_bytes(raw[: number % (len(raw) + 1)])
    elif kind == "delete":
        file.unlink()
    elif kind == "append":
        file.write_bytes(raw + bytes([number % 256]) * (1 + number % 50))
    elif kind == "overwrite":
        start = number % (len(raw) + 1)
        file.write_bytes(raw[:start] + bytes(min(40, len(raw) - start)) + raw[start + 40 :])
    elif kind == "swap" and (path / other).exists():
        file.write_bytes((path / other).read_bytes())
        (path / other).write_bytes(raw)
    elif kind == "rename":
        file.rename(file.with_name(("0" * 64 + file.suffix) if number % 2 else f"x{file.name}"))
    elif kind == "repeat line":
        lines = raw.splitlines(keepends=True)
        if lines:
            lines.insert(number % (len(lines) + 1), lines[number // 7 % len(lines)])
            file.write_bytes(b"".join(lines))
    elif kind == "change value" and name.endswith("manifest.json"):
        try:
            content = json.loads(raw)
        except ValueError:
            return  # an earlier mutation has left no value to change
        key = sorted(content)[number % len(content)]
        content[key] = number if number % 3 else None
        file.write_text(json.dumps(content, indent=1))


__all__ = ["ENVIRONMENT", "VM", "Damage", "World", "damage", "make_template", "mutate", "mutations"]
