# SPDX-License-Identifier: GPL-3.0-or-later
"""One live backup: a point in time of several disks of a running VM, readable while the VM writes on."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.hypervisor.images import Images, file_node
from lab.hypervisor.model import BitmapBroken, HypervisorError, LiveBackupDisk
from lab.hypervisor.qsd import StorageDaemon, live_url

Action = dict[str, Any]


@dataclass(frozen=True)
class _Part:
    """The names of one disk's share in the backup."""

    wanted: LiveBackupDisk
    node: str
    scratch: str
    scratch_file: Path
    job: str
    temporary: str | None
    sources: tuple[dict[str, str], ...] = ()


class LiveBackup:
    """`begin` once, then `end`, which may be called again. All exports are served by the VM's NBD server."""

    def __init__(
        self,
        daemon: StorageDaemon,
        images: Images,
        backup_id: str,
        disks: Sequence[LiveBackupDisk],
        checkpoint_id: str | None,
    ) -> None:
        self.daemon = daemon
        self.disks = tuple(disks)
        self.checkpoint_id = checkpoint_id
        self._images = images
        self._backup_id = backup_id
        self._undo = AsyncExitStack()
        self._urls: dict[str, str] = {}

    def url(self, disk_id: str) -> str:
        """Raises HypervisorError for a disk that is not in this backup."""
        try:
            return self._urls[disk_id]
        except KeyError:
            raise HypervisorError(f"backup {self._backup_id} has no disk {disk_id}") from None

    async def begin(self, number: int, scratch_dir: Path) -> None:
        """Take the point in time. Raises BitmapBroken before anything was changed, HypervisorError after
        everything was undone."""
        await self._check_bitmaps()
        parts = [await self._part(disk, number, index, scratch_dir) for index, disk in enumerate(self.disks)]
        try:
            _make_folder(scratch_dir, self._undo)
            for part in parts:
                await self._add_scratch(part)
            await self.daemon.execute("transaction", actions=self._actions(parts))
            for part in parts:
                self._undo.push_async_callback(self._if_alive, self._stop_part, part)
            for part in parts:
                await self._export(part)
        except BaseException:
            await self.end()
            raise

    async def end(self) -> None:
        """Undo everything but the new checkpoint. Raises HypervisorError after having tried all of it."""
        self._urls.clear()
        await self._undo.aclose()

    async def _check_bitmaps(self) -> None:
        for disk in self.disks:
            name = disk.from_bitmap
            if name is None:
                continue
            bitmap = (await self.daemon.bitmaps(disk.volume.disk_id)).get(name)
            problem = "it does not exist" if bitmap is None else bitmap.problem
            if problem is not None:
                raise BitmapBroken(disk.volume.disk_id, name, problem)

    async def _part(self, disk: LiveBackupDisk, number: int, index: int, scratch_dir: Path) -> _Part:
        # QEMU allows node names of at most 31 characters, so they are numbers, not ids.
        tag = f"{number}-{index}"
        return _Part(
            wanted=disk,
            node=self.daemon.node(disk.volume.disk_id),
            scratch=f"scratch-{tag}",
            scratch_file=scratch_dir / f"{self._backup_id}-{disk.volume.disk_id}.qcow2",
            job=f"backup-{tag}",
            temporary=f"backup-{tag}" if disk.from_bitmap is not None else None,
            sources=await self._sources(disk),
        )

    async def _sources(self, disk: LiveBackupDisk) -> tuple[dict[str, str], ...]:
        """The bitmap in every volume of the disk: a snapshot taken since has split it."""
        name, disk_id = disk.from_bitmap, disk.volume.disk_id
        if name is None:
            return ()
        nodes = self.daemon.layers(disk_id)
        there = [node for node in nodes if name in await self.daemon.bitmaps(disk_id, node)]
        return tuple({"node": node, "name": name} for node in there)

    async def _add_scratch(self, part: _Part) -> None:
        self._undo.callback(part.scratch_file.unlink, missing_ok=True)
        await self._images.create_scratch(part.scratch_file, part.wanted.volume.virtual_size)
        file = file_node(part.scratch_file, part.wanted.scratch_room)
        await self.daemon.execute(
            "blockdev-add",
            **{"driver": "qcow2", "node-name": part.scratch, "file": file, "backing": part.node},
        )
        self._undo.push_async_callback(self._if_alive, self._remove_scratch, part)

    def _actions(self, parts: Sequence[_Part]) -> list[Action]:
        """The transaction. The backups come first: preparing one holds its disk still until the end of the
        transaction, so that no disk is written to between its bitmaps' being merged and its point in time."""
        backups: list[Action] = []
        bitmaps: list[Action] = []
        for part in parts:
            backups.append(
                _action(
                    "blockdev-backup",
                    **{"job-id": part.job, "device": part.node, "target": part.scratch, "sync": "none"},
                )
            )
            if part.temporary is not None:
                name = part.temporary
                bitmaps.append(_action("block-dirty-bitmap-add", node=part.node, name=name, disabled=True))
                bitmaps.append(
                    _action(
                        "block-dirty-bitmap-merge", node=part.node, target=name, bitmaps=list(part.sources)
                    )
                )
            if part.wanted.add_bitmap and self.checkpoint_id is not None:
                name = self.checkpoint_id
                bitmaps.append(_action("block-dirty-bitmap-add", node=part.node, name=name, persistent=True))
        return backups + bitmaps

    async def _export(self, part: _Part) -> None:
        disk_id = part.wanted.volume.disk_id
        options: dict[str, object] = {
            "type": "nbd",
            "id": part.job,
            "name": f"{self._backup_id}/{disk_id}",
            "node-name": part.scratch,
            "allocation-depth": True,
        }
        if part.temporary is not None:
            options["bitmaps"] = [{"node": part.node, "name": part.temporary}]
        await self.daemon.execute("block-export-add", **options)
        self._undo.push_async_callback(self._if_alive, self.daemon.delete_export, part.job)
        self._urls[disk_id] = live_url(self.daemon.nbd_socket, str(options["name"]))

    async def _stop_part(self, part: _Part) -> None:
        await self.daemon.cancel_job(part.job)
        if part.temporary is not None:
            await self.daemon.execute("block-dirty-bitmap-remove", node=part.node, name=part.temporary)

    async def _remove_scratch(self, part: _Part) -> None:
        await self.daemon.execute("blockdev-del", **{"node-name": part.scratch})

    async def _if_alive(self, step: Callable[[Any], Awaitable[None]], argument: object) -> None:
        """A dead daemon has taken its jobs, nodes and exports with it."""
        if self.daemon.alive:
            await step(argument)


def _action(kind: str, **data: object) -> Action:
    return {"type": kind, "data": data}


def _make_folder(folder: Path, undo: AsyncExitStack) -> None:
    """Remove the folder at the end only if it was not there before and nobody else put something into it."""
    if not folder.exists():
        folder.mkdir(parents=True)
        undo.callback(_remove_if_empty, folder)


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return
