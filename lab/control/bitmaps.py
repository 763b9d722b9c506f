# SPDX-License-Identifier: GPL-3.0-or-later
"""Real damage to real bitmaps."""

from lab.control.schema import ControlError
from lab.engine.core import Core, volume_of
from lab.engine.state import Disk
from lab.hypervisor import HypervisorError


async def break_bitmap(core: Core, disk: Disk, name: str, how: str) -> None:
    """`missing` or `in_use`. Raises ControlError if it cannot be done now."""
    if disk.format != "cow":
        raise ControlError(f"Disk {disk.alias} is raw and has no bitmaps.", 409)
    try:
        if how == "missing":
            await core.hypervisor.remove_bitmap(volume_of(disk), name)
        else:
            await core.hypervisor.spoil_bitmap(volume_of(disk), name)
    except HypervisorError as error:
        raise ControlError(f"The bitmap of disk {disk.alias} could not be broken: {error}", 409) from error
