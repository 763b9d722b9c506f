# SPDX-License-Identifier: GPL-3.0-or-later
"""A VM that is up: one qemu-storage-daemon that has its disks open, driven over QMP.

QMP commands: https://www.qemu.org/docs/master/interop/qemu-storage-daemon-qmp-ref.html
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from qemu.qmp import QMPClient
from qemu.qmp.error import QMPError
from qemu.qmp.qmp_client import ExecuteError

from lab.hypervisor.model import HypervisorError, Volume
from lab.processes import CommandFailed, ProcessGroup, kill, terminate
from lab.sockets import SocketDir

log = logging.getLogger(__name__)

START_SECONDS = 20.0
QUIT_SECONDS = 20.0
POLL_SECONDS = 0.01
GONE_SECONDS = 20.0
COMMIT_SECONDS = 600.0
# The client logs every lost connection as an error, also when we have just asked for the end.
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)


class QmpRefused(HypervisorError):
    """QEMU answered with an error; `kind` is its class, mostly `GenericError`."""

    def __init__(self, command: str, kind: str, description: str) -> None:
        self.kind = kind
        super().__init__(f"{command}: {description}")


@dataclass(frozen=True)
class LiveBitmap:
    """A dirty bitmap as the running VM has it; `count` is the number of dirty bytes."""

    recording: bool
    busy: bool
    persistent: bool
    inconsistent: bool
    count: int

    @property
    def problem(self) -> str | None:
        """Why no backup can start from it; None if one can."""
        if self.inconsistent:
            return "it is inconsistent"
        if self.busy:
            return "it is in use by another operation"
        return None if self.recording else "it has stopped recording"


class StorageDaemon:
    """One qemu-storage-daemon; disk number n is the block node `vd<letter>`."""

    def __init__(self, vm_id: str, number: int, processes: ProcessGroup, sockets: SocketDir) -> None:
        self.vm_id = vm_id
        self._processes = processes
        self._sockets = sockets
        self._qmp_socket = sockets.path(f"vm{number}.qmp")
        self.nbd_socket = sockets.path(f"vm{number}.nbd")
        self._client = QMPClient(f"vm-{vm_id}")
        self._process: asyncio.subprocess.Process | None = None
        self._letters: dict[str, str] = {}
        self._layers: dict[str, list[str]] = {}
        self._numbers = count()
        self._holds = count(1)
        self.volumes: dict[str, Volume] = {}

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def node(self, disk_id: str) -> str:
        """The block node that the guest writes to. Raises HypervisorError if the VM has no such disk."""
        return self.layers(disk_id)[-1]

    def layers(self, disk_id: str) -> list[str]:
        """The block nodes of a disk's volumes, the base first. Raises HypervisorError if there is no such disk."""
        try:
            return self._layers[disk_id]
        except KeyError:
            raise HypervisorError(f"VM {self.vm_id} has no disk {disk_id}") from None

    async def start(self, volumes: Sequence[Volume]) -> None:
        """Open all volumes for writing. Raises HypervisorError, and then nothing runs."""
        try:
            await self._launch()
            for volume in volumes:
                await self.add_disk(volume)
        except BaseException:
            await self.kill()
            raise

    async def execute(self, command: str, **arguments: object) -> Any:
        """One QMP command. Raises QmpRefused if it is refused, HypervisorError if the daemon is gone."""
        if not self.alive:
            raise HypervisorError(f"the storage daemon of VM {self.vm_id} is not running")
        try:
            return await self._client.execute(command, arguments)
        except ExecuteError as error:
            raise QmpRefused(command, error.error_class, str(error)) from error
        except (QMPError, OSError, EOFError) as error:
            raise HypervisorError(f"{command}: the storage daemon of VM {self.vm_id} went away") from error

    async def bitmaps(self, disk_id: str, node: str | None = None) -> Mapping[str, LiveBitmap]:
        """The dirty bitmaps of a disk's active volume, or of another `node` of it, by name."""
        node = node or self.node(disk_id)
        for told in await self.execute("query-named-block-nodes", flat=True):
            if told["node-name"] == node:
                # A running backup keeps nameless bitmaps of its own on the node.
                named = [bitmap for bitmap in told.get("dirty-bitmaps", []) if "name" in bitmap]
                return {bitmap["name"]: _bitmap(bitmap) for bitmap in named}
        raise HypervisorError(f"VM {self.vm_id} has lost disk {disk_id}")

    async def export_for_guest(self, disk_id: str) -> str:
        """A writable NBD export of the running disk, for programs inside the guest; returns its name."""
        name = _guest_export(disk_id)
        await self.execute(
            "block-export-add",
            **{"type": "nbd", "id": name, "name": name, "node-name": self.node(disk_id), "writable": True},
        )
        return name

    async def hold_bitmap(self, disk_id: str, name: str) -> None:
        """Keep a bitmap busy, so that nothing can start from it, until the daemon ends."""
        node = self.node(disk_id)
        export = f"hold-{node}-{name}"
        await self.execute(
            "block-export-add",
            **{
                "type": "nbd",
                "id": f"hold-{next(self._holds)}-{node}",
                "name": export,
                "node-name": node,
                "bitmaps": [{"node": node, "name": name}],
            },
        )

    async def delete_export(self, export_id: str) -> None:
        """Close an export and its connections, and wait until it is gone."""
        await self._quietly("block-export-del", id=export_id, mode="hard")
        await self._until_gone("query-block-exports", "id", export_id)

    async def cancel_job(self, job_id: str) -> None:
        """Cancel a block job, and wait until it is gone."""
        await self._quietly("block-job-cancel", device=job_id, force=True)
        await self._until_gone("query-block-jobs", "device", job_id)

    async def quit(self) -> None:
        """End by QMP `quit`, which stores the persistent bitmaps. Raises HypervisorError if it had to be killed."""
        if self._process is None:
            return
        try:
            await self.execute("quit")
        except HypervisorError as error:
            log.debug("quit: %s", error)
        try:
            await asyncio.wait_for(self._process.wait(), QUIT_SECONDS)
            clean = self._process.returncode == 0
        except TimeoutError:
            clean = await terminate(self._process)
        await self._clean_up()
        if not clean:
            raise HypervisorError(f"the storage daemon of VM {self.vm_id} did not end cleanly")

    async def kill(self) -> None:
        """End as a power cut would: bitmaps stay `in-use` in the files."""
        if self._process is not None:
            await kill(self._process)
        await self._clean_up()

    async def _launch(self) -> None:
        name = f"vm-{self.vm_id}"
        try:
            self._process = await self._processes.spawn(
                name,
                "qemu-storage-daemon",
                "--chardev",
                f"socket,id=qmp,path={self._qmp_socket},server=on,wait=off",
                "--monitor",
                "chardev=qmp",
                "--nbd-server",
                f"addr.type=unix,addr.path={self.nbd_socket}",
            )
        except CommandFailed as error:
            raise HypervisorError(str(error)) from error
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while not self._qmp_socket.exists() or not await self._connected():
            if not self.alive or asyncio.get_running_loop().time() > deadline:
                words = self._processes.log_tail(name)
                raise HypervisorError(f"qemu-storage-daemon did not start: {words}")
            await asyncio.sleep(POLL_SECONDS)

    async def _connected(self) -> bool:
        try:
            await self._client.connect(str(self._qmp_socket))
        except (QMPError, OSError):
            return False
        return True

    async def add_disk(self, volume: Volume) -> None:
        """Open one more disk for writing: its volume, and those that it lies on for reading. Raises HypervisorError."""
        self._letters[volume.disk_id] = self._free_letters()
        self._layers[volume.disk_id] = []
        for layer in volume.chain:
            await self.open_layer(layer, read_only=layer is not volume)
        self.volumes[volume.disk_id] = volume

    async def remove_disk(self, disk_id: str) -> None:
        """Close a disk, which stores its bitmaps; the guest's own connection to it is cut. Raises HypervisorError."""
        layers = self.layers(disk_id)
        await self.delete_export(_guest_export(disk_id))
        while layers:
            await self.close_node(layers.pop())
        del self._layers[disk_id], self._letters[disk_id], self.volumes[disk_id]

    async def open_layer(self, volume: Volume, *, read_only: bool, detached: bool = False) -> str:
        """Open a volume on top of the open ones of its disk; returns its node. `detached`: with nothing below it yet,
        for a snapshot to be taken, and not counted to the disk's layers."""
        layers = self.layers(volume.disk_id)
        node = f"{self._letters[volume.disk_id]}.{next(self._numbers)}"
        file = {"driver": "file", "node-name": f"{node}f", "filename": str(volume.path)}
        await self.execute("blockdev-add", **file, **{"auto-read-only": True, "discard": "unmap"})
        below = None if detached or not layers else layers[-1]
        await self.execute("blockdev-add", **_layer_options(volume, node, below, read_only=read_only))
        if not detached:
            layers.append(node)
        return node

    async def reopen_layer(self, volume: Volume, node: str, *, read_only: bool) -> None:
        """Read-only: its bitmaps are stored in the file, where other processes may read them. Else: for writing."""
        layers = self.layers(volume.disk_id)
        at = layers.index(node)
        options = _layer_options(volume, node, layers[at - 1] if at else None, read_only=read_only)
        await self.execute("blockdev-reopen", options=[options])

    async def close_node(self, node: str) -> None:
        """Close one volume, which stores its bitmaps."""
        await self.execute("blockdev-del", **{"node-name": node})
        await self.execute("blockdev-del", **{"node-name": f"{node}f"})

    async def finish_job(self, job_id: str, *, active: bool) -> None:
        """Wait for the end of a commit; an `active` one is told to end when it has caught up with the guest."""
        deadline = asyncio.get_running_loop().time() + COMMIT_SECONDS
        completing = False
        while True:
            jobs = {job["id"]: job for job in await self.execute("query-jobs")}
            job = jobs.get(job_id)
            if job is None or job["status"] == "concluded":
                break
            if active and job["status"] == "ready" and not completing:
                await self.execute("job-complete", id=job_id)
                completing = True
            if asyncio.get_running_loop().time() > deadline:
                raise HypervisorError(f"{job_id} of VM {self.vm_id} does not end")
            await asyncio.sleep(POLL_SECONDS)
        if job is not None:
            await self.execute("job-dismiss", id=job_id)
            if job.get("error"):
                raise HypervisorError(f"{job_id} of VM {self.vm_id}: {job['error']}")

    def _free_letters(self) -> str:
        """The first free name of `vda`, `vdb` …, `vdaa` …, as a guest's kernel would choose it."""
        taken = set(self._letters.values())
        letters = "abcdefghijklmnopqrstuvwxyz"
        names = (f"vd{first}{last}" for first in ("", *letters) for last in letters)
        return next(name for name in names if name not in taken)

    async def _quietly(self, command: str, **arguments: object) -> None:
        """For commands that end something: already gone is as good."""
        try:
            await self.execute(command, **arguments)
        except QmpRefused as error:
            log.debug("%s", error)

    async def _until_gone(self, query: str, key: str, value: str) -> None:
        deadline = asyncio.get_running_loop().time() + GONE_SECONDS
        while any(item[key] == value for item in await self.execute(query)):
            if asyncio.get_running_loop().time() > deadline:
                raise HypervisorError(f"{value} of VM {self.vm_id} does not end")
            await asyncio.sleep(POLL_SECONDS)

    async def _clean_up(self) -> None:
        try:
            await self._client.disconnect()
        except (QMPError, OSError, EOFError) as error:
            # The daemon hung up first, as it does when it ends.
            log.debug("QMP of VM %s: %r", self.vm_id, error)
        self._sockets.release(self._qmp_socket)
        self._sockets.release(self.nbd_socket)


def _layer_options(volume: Volume, node: str, below: str | None, *, read_only: bool) -> dict[str, Any]:
    options: dict[str, Any] = {
        "driver": volume.driver,
        "node-name": node,
        "file": f"{node}f",
        "read-only": read_only,
        "discard": "unmap",
    }
    if volume.format == "cow":
        options["backing"] = below
    return options


def _guest_export(disk_id: str) -> str:
    return f"guest-{disk_id}"


def live_url(socket: Path, export: str) -> str:
    """The url of an export for an imageio ticket."""
    return f"nbd:unix:{socket}:exportname={export}"


def _bitmap(told: Mapping[str, Any]) -> LiveBitmap:
    return LiveBitmap(
        recording=told["recording"],
        busy=told["busy"],
        persistent=told["persistent"],
        inconsistent=told.get("inconsistent", False),
        count=told["count"],
    )
