# SPDX-License-Identifier: GPL-3.0-or-later
"""What every command of the engine needs: state, clock, events, jobs, the hypervisor and imageio."""

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from lab.control.book import FaultBook
from lab.control.link import Link
from lab.engine.clock import Clock
from lab.engine.events import EventLog
from lab.engine.faults import EntityMissing, disk_in_memory_lock
from lab.engine.jobs import JobBook
from lab.engine.state import Backup, Disk, FrozenVolume, Host, State, Vm
from lab.hypervisor import Hypervisor, Volume
from lab.imageio import ImageioDaemon
from lab.processes import ProcessGroup

log = logging.getLogger(__name__)


class EngineHost(Protocol):
    """The Manager's machine as the API knows it (lab/hosts/link.py); only a lab with --hosts has one."""

    version: str
    last_backups: dict[str, datetime]

    @property
    def is_down(self) -> bool: ...

    async def look(self) -> None: ...


@dataclass(eq=False)
class Core:
    """`compat` is the compatibility level of the cluster, e.g. (4, 6); `level_of` that of a VM."""

    directory: Path
    compat: tuple[int, int]
    state: State
    clock: Clock
    events: EventLog
    jobs: JobBook
    processes: ProcessGroup
    hypervisor: Hypervisor
    host_imageio: ImageioDaemon
    proxy_imageio: ImageioDaemon
    faults: FaultBook = field(default_factory=FaultBook)
    host_link: Link = field(init=False)
    proxy_link: Link = field(init=False)
    engine_host: EngineHost | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.host_link = Link("host", self.host_imageio, self.faults)
        self.clock.skew = lambda: self.faults.sum("clock", "seconds")
        self.proxy_link = Link("proxy", self.proxy_imageio, self.faults)

    def spawn(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run a command in the background; what it raises is logged."""
        task = asyncio.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("command %s failed", task.get_name(), exc_info=error)

    async def close(self) -> None:
        """Stop the running commands where they stand."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.host_link.close()
        await self.proxy_link.close()

    def vm(self, vm_id: str) -> Vm:
        """Raises EntityMissing."""
        try:
            return self.state.vms[vm_id]
        except KeyError:
            raise EntityMissing(vm_id) from None

    def level_of(self, vm: Vm) -> tuple[int, int]:
        """The compatibility level that holds for a VM: its own, else its cluster's."""
        return vm.custom_version or self.state.clusters[vm.cluster_id].version

    def disk(self, disk_id: str) -> Disk:
        """Raises EntityMissing."""
        try:
            return self.state.disks[disk_id]
        except KeyError:
            raise EntityMissing(disk_id) from None

    def check_not_held(self, disk: Disk, action: str) -> None:
        """A hybrid backup holds its disks in the engine's memory alone, until it is over (HybridBackupCommand,
        getExclusiveLocks()); a lock is taken before anything else is looked at. Raises EngineFault."""
        if self.state.is_in_hybrid_backup(disk.id):
            raise disk_in_memory_lock(action)

    def backup(self, backup_id: str) -> Backup:
        """Raises EntityMissing, also when the record has been dropped."""
        try:
            return self.state.backups[backup_id]
        except KeyError:
            raise EntityMissing(backup_id) from None

    @property
    def host(self) -> Host:
        """The one host of the lab."""
        return next(iter(self.state.hosts.values()))


def volume_of(disk: Disk) -> Volume:
    """The active volume, on top of those that it lies on."""
    below = tuple(_volume(disk, layer) for layer in disk.below)
    return replace(_volume(disk, disk), below=below)


def frozen_volume_of(disk: Disk, image_id: str) -> Volume | None:
    """A volume of a snapshot of the disk, on top of those that it lies on; None if the disk has none with that id."""
    for at, layer in enumerate(disk.below):
        if layer.image_id == image_id:
            below = tuple(_volume(disk, each) for each in disk.below[:at])
            return replace(_volume(disk, layer), below=below)
    return None


def _volume(disk: Disk, layer: Disk | FrozenVolume) -> Volume:
    """One volume of a disk, the active one or one below it, without those that it lies on."""
    return Volume(
        disk_id=disk.id,
        volume_id=layer.image_id,
        path=layer.path,
        format="cow" if layer.format == "cow" else "raw",
        virtual_size=disk.provisioned_size,
        sparse=layer.sparse,
    )
