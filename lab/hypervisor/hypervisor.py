# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's host: runs VMs, serves their disks, takes live backups."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Sequence
from itertools import count
from pathlib import Path

from lab.guests import GuestSpec
from lab.hypervisor import snapshots
from lab.hypervisor.guest import start_writer
from lab.hypervisor.images import Images
from lab.hypervisor.live import LiveBackup
from lab.hypervisor.model import HypervisorError, LiveBackupDisk, Volume, VolumeInfo
from lab.hypervisor.nbd import NbdExports
from lab.hypervisor.qsd import StorageDaemon
from lab.processes import ProcessGroup, kill, terminate
from lab.sockets import SocketDir

log = logging.getLogger(__name__)


class Hypervisor:
    """Real disks in real processes. Everything is lost with the object, but for the images themselves."""

    def __init__(self, run_dir: Path, processes: ProcessGroup) -> None:
        self._processes = processes
        self._sockets = SocketDir(run_dir)
        self._images = Images(processes)
        self._exports = NbdExports(processes, self._sockets)
        self._daemons: dict[str, StorageDaemon] = {}
        self._writers: dict[str, asyncio.subprocess.Process] = {}
        self._backups: dict[str, LiveBackup] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._numbers = count(1)

    async def create_volume(self, volume: Volume) -> None:
        """A new, empty image file. Raises HypervisorError."""
        await self._images.create(volume)

    async def delete_volume(self, volume: Volume) -> None:
        """Remove the file and those below it; one that is gone is no error. Raises HypervisorError while a VM has it
        open."""
        if self._daemon_of(volume) is not None:
            raise HypervisorError(f"disk {volume.disk_id} is in use by a running VM")
        for layer in volume.chain:
            layer.path.unlink(missing_ok=True)

    async def volume_info(self, volume: Volume) -> VolumeInfo:
        """What the file tells. Raises HypervisorError."""
        return await self._images.info(volume)

    async def start_vm(self, vm_id: str, volumes: Sequence[Volume], guest: GuestSpec | None) -> None:
        """Open the disks and start the guest's writer. Raises HypervisorError, and then the VM is down."""
        async with self._locks[vm_id]:
            if self.is_running(vm_id):
                raise HypervisorError(f"VM {vm_id} is running already")
            await self._stop(vm_id, unclean=True)
            daemon = StorageDaemon(vm_id, next(self._numbers), self._processes, self._sockets)
            await daemon.start(volumes)
            self._daemons[vm_id] = daemon
            try:
                if guest is not None:
                    self._writers[vm_id] = await start_writer(daemon, guest, self._processes)
            except BaseException:
                await self._stop(vm_id, unclean=False)
                raise

    async def stop_vm(self, vm_id: str, *, unclean: bool = False) -> None:
        """Shut down, storing the bitmaps, or with `unclean` cut the power. A VM that is down is no error."""
        async with self._locks[vm_id]:
            await self._stop(vm_id, unclean=unclean)

    async def plug(self, vm_id: str, volume: Volume) -> None:
        """Open a disk in a running VM. Raises HypervisorError."""
        async with self._locks[vm_id]:
            await self._running(vm_id).add_disk(volume)

    async def unplug(self, vm_id: str, disk_id: str) -> None:
        """Take a disk out of a running VM, whatever the guest does with it. Raises HypervisorError."""
        async with self._locks[vm_id]:
            await self._running(vm_id).remove_disk(disk_id)

    async def take_snapshot(
        self, vm_id: str, volumes: Sequence[Volume], new_bitmap: str | None = None
    ) -> None:
        """New volumes on top of the ones in their `below`, in one moment; `new_bitmap` begins in them then.

        Raises HypervisorError after everything was undone."""
        async with self._locks[vm_id]:
            if self.is_running(vm_id):
                await snapshots.take_live(self._daemons[vm_id], self._images, volumes, new_bitmap)
            else:
                await snapshots.take_cold(self._images, volumes, new_bitmap)

    async def merge_snapshot(self, vm_id: str, volume: Volume, at: int, after: Volume) -> None:
        """Merge volume `at` + 1 of a disk's chain into volume `at`; `after` is the disk as it is then.

        Raises HypervisorError; the chain may then be as it was, or the upper file be left over."""
        async with self._locks[vm_id]:
            if not self.is_running(vm_id):
                await snapshots.merge_cold(self._images, volume, at)
                return
            daemon = self._daemons[vm_id]
            await snapshots.merge_live(daemon, volume, at)
            daemon.volumes[volume.disk_id] = after

    def _running(self, vm_id: str) -> StorageDaemon:
        if not self.is_running(vm_id):
            raise HypervisorError(f"VM {vm_id} is not running")
        return self._daemons[vm_id]

    def is_running(self, vm_id: str) -> bool:
        """False also if the VM's process died by itself; `stop_vm` then only tidies up."""
        daemon = self._daemons.get(vm_id)
        return daemon is not None and daemon.alive

    def is_paused(self, vm_id: str) -> bool:
        """The VM is there, but its writer has ended: a write failed, at which a VM with oVirt's error policy (vdsm:
        `stop`) is paused."""
        writer = self._writers.get(vm_id)
        return self.is_running(vm_id) and writer is not None and writer.returncode is not None

    async def begin_live_backup(
        self,
        vm_id: str,
        backup_id: str,
        disks: Sequence[LiveBackupDisk],
        checkpoint_id: str | None,
        scratch_dir: Path,
    ) -> None:
        """Take one point in time of all disks, and begin the bitmaps of the new checkpoint in the same moment.

        Raises BitmapBroken before anything was changed, HypervisorError after everything was undone."""
        async with self._locks[vm_id]:
            if backup_id in self._backups:
                raise HypervisorError(f"backup {backup_id} is running already")
            if not self.is_running(vm_id):
                raise HypervisorError(f"VM {vm_id} is not running")
            backup = LiveBackup(self._daemons[vm_id], self._images, backup_id, disks, checkpoint_id)
            await backup.begin(next(self._numbers), scratch_dir)
            self._backups[backup_id] = backup

    def live_backup_url(self, backup_id: str, disk_id: str) -> str:
        """The url of one disk for an imageio ticket. Raises HypervisorError if there is none."""
        if backup_id not in self._backups:
            raise HypervisorError(f"there is no live backup {backup_id}")
        return self._backups[backup_id].url(disk_id)

    async def end_live_backup(self, backup_id: str, *, drop_checkpoint: bool = False) -> None:
        """Close the exports, remove the scratch files and, if asked, the bitmaps of the new checkpoint.

        An unknown backup is no error, and a VM that is down by now neither. Raises HypervisorError."""
        backup = self._backups.get(backup_id)
        if backup is None:
            return
        async with self._locks[backup.daemon.vm_id]:
            await backup.end()
            if drop_checkpoint and backup.checkpoint_id is not None:
                for disk in backup.disks:
                    if disk.add_bitmap:
                        await self.remove_bitmap(disk.volume, backup.checkpoint_id)
            self._backups.pop(backup_id, None)

    async def add_cold_bitmap(self, volume: Volume, checkpoint_id: str) -> None:
        """Begin a checkpoint in a qcow2 of a VM that is down. Raises HypervisorError."""
        await self._images.add_bitmap(volume, checkpoint_id)

    async def remove_bitmap(self, volume: Volume, checkpoint_id: str) -> None:
        """Remove a checkpoint's bitmap, sound or not, VM up or down; one that is not there is no error.

        Raises HypervisorError, also for a bitmap that an operation uses."""
        daemon = self._daemon_of(volume)
        if daemon is None:
            for layer in volume.chain:
                await self._images.remove_bitmap(layer, checkpoint_id)
            return
        for layer, node in zip(volume.chain, daemon.layers(volume.disk_id), strict=True):
            if checkpoint_id not in await daemon.bitmaps(volume.disk_id, node):
                continue
            if layer is not volume:
                await daemon.reopen_layer(layer, node, read_only=False)
            await daemon.execute("block-dirty-bitmap-remove", node=node, name=checkpoint_id)
            if layer is not volume:
                await daemon.reopen_layer(layer, node, read_only=True)

    async def spoil_bitmap(self, volume: Volume, name: str) -> None:
        """Make a bitmap unusable as life does: a volume that nobody has open is opened and the process killed, which
        leaves all its bitmaps `in-use`; in a running VM an export holds this one until the VM stops.

        Raises HypervisorError."""
        daemon = self._daemon_of(volume)
        if daemon is not None:
            await daemon.hold_bitmap(volume.disk_id, name)
            return
        daemon = StorageDaemon(
            f"spoiled-{volume.disk_id}", next(self._numbers), self._processes, self._sockets
        )
        await daemon.start([volume])
        await daemon.kill()

    async def has_good_bitmap(self, volume: Volume, name: str) -> bool:
        """Could an incremental backup start from this bitmap now?"""
        if volume.format == "raw":
            return False
        daemon = self._daemon_of(volume)
        if daemon is not None:
            bitmap = (await daemon.bitmaps(volume.disk_id)).get(name)
            return bitmap is not None and bitmap.problem is None
        flags = (await self._images.info(volume)).bitmaps.get(name, frozenset())
        return "auto" in flags and "in-use" not in flags

    async def export_volume(
        self,
        volume: Volume,
        *,
        export_id: str,
        readonly: bool,
        bitmap: str | None = None,
        room: int | None = None,
        shallow: bool = False,
    ) -> str:
        """Serve a volume that no VM writes to; returns the url for an imageio ticket. With `room` its storage is full
        after so many bytes more; `shallow`: without the volumes below it.

        Raises BitmapBroken or HypervisorError if qemu-nbd refuses."""
        if bitmap is not None and volume.below:
            return await self._exports.open_overlay(volume, export_id, self._images, bitmap)
        return await self._exports.open(
            volume, export_id, readonly=readonly, bitmap=bitmap, room=room, shallow=shallow
        )

    async def close_export(self, export_id: str) -> None:
        """Stop serving; returns when all is written. An unknown id is no error."""
        await self._exports.close(export_id)

    async def close(self) -> None:
        """Shut everything down cleanly and remove all sockets. Logs what refuses, raises nothing."""
        for backup_id in list(self._backups):
            await self._logged(self.end_live_backup(backup_id), f"backup {backup_id}")
        stops = [self._logged(self.stop_vm(vm_id), f"VM {vm_id}") for vm_id in list(self._daemons)]
        await asyncio.gather(*stops, self._logged(self._exports.close_all(), "exports"))
        self._sockets.close()

    async def _logged(self, step: Awaitable[object], what: str) -> None:
        try:
            await step
        except HypervisorError:
            log.exception("closing %s", what)

    async def _stop(self, vm_id: str, *, unclean: bool) -> None:
        daemon = self._daemons.pop(vm_id, None)
        writer = self._writers.pop(vm_id, None)
        if unclean:
            if daemon is not None:
                await daemon.kill()
            if writer is not None:
                await kill(writer)
            return
        if writer is not None:
            await terminate(writer)
        if daemon is None:
            return
        for backup in self._backups.values():
            if backup.daemon is daemon:
                await self._logged(backup.end(), "a backup of a VM that shuts down")
        await daemon.quit()

    def _daemon_of(self, volume: Volume) -> StorageDaemon | None:
        """The running VM that has the volume open."""
        for daemon in self._daemons.values():
            held = daemon.volumes.get(volume.disk_id)
            if daemon.alive and held is not None and held.path == volume.path:
                return daemon
        return None
