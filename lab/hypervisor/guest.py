# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs inside a guest: a writer process, connected to the running disk as a guest's kernel would be."""

import asyncio
import os
import sys
from pathlib import Path

from lab.guests import GuestSpec
from lab.hypervisor.model import HypervisorError
from lab.hypervisor.qsd import StorageDaemon
from lab.processes import CommandFailed, ProcessGroup

PROJECT_DIR = Path(__file__).resolve().parent.parent.parent


async def start_writer(
    daemon: StorageDaemon, guest: GuestSpec, processes: ProcessGroup
) -> asyncio.subprocess.Process:
    """Start `python -m lab.guest_writer` on a writable export of its disk. Raises HypervisorError."""
    export = await daemon.export_for_guest(guest.writer_disk_id)
    guest.journal.parent.mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, "-m", "lab.guest_writer", "--socket", str(daemon.nbd_socket), "--export", export]
    argv += ["--area-offset", str(guest.area_offset), "--area-length", str(guest.area_length)]
    argv += ["--block-size", str(guest.block_size), "--interval", str(guest.interval_seconds)]
    argv += ["--journal", str(guest.journal)]
    # The package may be found by the lab's working directory alone, which may change.
    search_path = os.pathsep.join([str(PROJECT_DIR), *filter(None, [os.environ.get("PYTHONPATH")])])
    try:
        return await processes.spawn(f"guest-{daemon.vm_id}", *argv, env={"PYTHONPATH": search_path})
    except CommandFailed as error:
        raise HypervisorError(str(error)) from error
