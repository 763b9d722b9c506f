# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in Manager: puts the commands together, starts and stops everything below them."""

import logging
from dataclasses import dataclass
from pathlib import Path

from lab.engine.attachments import AttachmentCommands
from lab.engine.backups import BackupCommands
from lab.engine.checkpoints import CheckpointCommands
from lab.engine.clock import Clock
from lab.engine.core import Core
from lab.engine.disks import DiskCommands
from lab.engine.events import EventLog
from lab.engine.imports import ImportCommands
from lab.engine.inventory import GuestBuilder, build_state
from lab.engine.jobs import JobBook
from lab.engine.nics import NicCommands
from lab.engine.people import PeopleCommands
from lab.engine.principals import ADMIN_USER_ID, User
from lab.engine.snapshots import SnapshotCommands
from lab.engine.tags import TagCommands
from lab.engine.transfers import TransferCommands
from lab.engine.vms import VmCommands
from lab.hypervisor import Hypervisor
from lab.imageio import ImageioDaemon
from lab.pki import Pki
from lab.processes import ProcessGroup

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """`username` is `user@profile`; `lag` and `retention` are factors of the engine's own times."""

    directory: Path
    username: str
    compat: tuple[int, int]
    profile: str
    lag: float
    retention: float


class Manager:
    """Everything behind the API. `start` first, `close` last."""

    def __init__(self, settings: Settings, pki: Pki) -> None:
        directory = settings.directory
        processes = ProcessGroup(directory / "log")
        name, _, domain = settings.username.partition("@")
        # The authentication profile `internal` belongs to the authorization domain `internal-authz`.
        user = User(ADMIN_USER_ID, f"{name}@{domain}-authz", name, f"{domain}-authz", first_name=name)
        clock = Clock(settings.lag, settings.retention)
        self.user = user
        self.core = core = Core(
            directory=directory,
            compat=settings.compat,
            state=build_state(directory, settings.compat, user),
            clock=clock,
            events=EventLog(clock, user.user_name, user.id),
            jobs=JobBook(clock),
            processes=processes,
            hypervisor=Hypervisor(directory / "run", processes),
            host_imageio=ImageioDaemon(directory / "imageio-host", pki, processes, name="imageio-host"),
            proxy_imageio=ImageioDaemon(
                directory / "imageio-proxy",
                pki,
                processes,
                name="imageio-proxy",
                backend_http_ca=pki.ca_file,
            ),
        )
        self._profile = settings.profile
        self.disks = DiskCommands(core)
        self.attachments = AttachmentCommands(core, self.disks)
        self.nics = NicCommands(core)
        self.tags = TagCommands(core)
        self.people = PeopleCommands(core)
        self.vms = VmCommands(core, self.disks)
        self.imports = ImportCommands(core, self.vms, self.attachments, self.nics)
        self.checkpoints = CheckpointCommands(core)
        self.snapshots = SnapshotCommands(core)
        self.backups = BackupCommands(core, self.checkpoints, self.snapshots)
        self.transfers = TransferCommands(core, self.disks)
        self.vms.on_power_loss.append(self.backups.power_lost)

    async def start(self) -> None:
        """Build the guests' disks, start both imageio daemons and the VMs that are up. Raises on any failure."""
        core = self.core
        await core.host_imageio.start()
        await core.proxy_imageio.start()
        for vm, machine in await GuestBuilder(core, self.nics, self._profile).build():
            if machine.up:
                if not await self.vms.launch(vm):
                    raise RuntimeError(f"VM {vm.name} could not be started: see {core.directory / 'log'}")
                vm.status = "up"
        core.spawn(self.vms.watch(), "watch VMs")

    async def close(self) -> None:
        """Stop all of it; carries on past failures, which are logged."""
        core = self.core
        for step in (
            core.close,
            core.proxy_imageio.stop,
            core.host_imageio.stop,
            core.hypervisor.close,
            core.processes.close,
        ):
            try:
                await step()
            except Exception:  # the rest must still be stopped
                log.exception("while stopping")
