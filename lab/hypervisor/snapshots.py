# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots: a new volume on top of a disk's chain, and the merge of a volume into the one below it.

While a VM runs QEMU does both under the guest's hands; else qemu-img does. Checkpoints must survive either:
- Every bitmap of the volume that is frozen goes on under its name in the new one, as libvirt (qemu_snapshot.c,
  qemuSnapshotDiskBitmapsPropagate) and, for a VM that is down, vdsm (storage/bitmaps.py, add_bitmaps) do it.
- Before a merge every bitmap of the upper volume exists in the lower one and records. What the merge writes is what the
  guest has written since the snapshot, so the bitmaps come to hold it by themselves, and later writes too: nothing
  can fall between two steps. (libvirt stops recording and merges afterwards; the outcome is the same.)
"""

from collections.abc import Sequence

from lab.hypervisor.images import Images
from lab.hypervisor.model import Volume
from lab.hypervisor.qsd import StorageDaemon


async def take_live(
    daemon: StorageDaemon, images: Images, volumes: Sequence[Volume], new_bitmap: str | None
) -> None:
    """One moment of all disks. `volumes`: the new ones, each `below` being what is open now.

    Raises HypervisorError after everything was undone."""
    nodes: dict[str, str] = {}
    try:
        for volume in volumes:
            await images.create_overlay(volume)
            node = nodes[volume.disk_id] = await daemon.open_layer(volume, read_only=False, detached=True)
            for name in await _names_for(daemon, volume, new_bitmap):
                await daemon.execute("block-dirty-bitmap-add", node=node, name=name, persistent=True)
        actions = [
            {
                "type": "blockdev-snapshot",
                "data": {"node": daemon.node(volume.disk_id), "overlay": nodes[volume.disk_id]},
            }
            for volume in volumes
        ]
        await daemon.execute("transaction", actions=actions)
    except BaseException:
        for volume in volumes:
            if volume.disk_id in nodes and daemon.alive:
                await daemon.close_node(nodes[volume.disk_id])
            volume.path.unlink(missing_ok=True)
        raise
    for volume in volumes:
        layers = daemon.layers(volume.disk_id)
        layers.append(nodes[volume.disk_id])
        daemon.volumes[volume.disk_id] = volume
        await daemon.reopen_layer(volume.below[-1], layers[-2], read_only=True)


async def _names_for(daemon: StorageDaemon, volume: Volume, new_bitmap: str | None) -> list[str]:
    found = await daemon.bitmaps(volume.disk_id)
    names = [name for name, bitmap in found.items() if bitmap.persistent and not bitmap.inconsistent]
    return [*names, *([new_bitmap] if new_bitmap else [])]


async def take_cold(images: Images, volumes: Sequence[Volume], new_bitmap: str | None) -> None:
    """The same for a VM that is down. Raises HypervisorError after everything was undone."""
    try:
        for volume in volumes:
            await images.create_overlay(volume)
            base = volume.below[-1]
            names = [] if base.format == "raw" else list((await images.info(base)).bitmaps)
            for name in [*names, *([new_bitmap] if new_bitmap else [])]:
                await images.add_bitmap(volume, name)
    except BaseException:
        for volume in volumes:
            volume.path.unlink(missing_ok=True)
        raise


async def merge_live(daemon: StorageDaemon, volume: Volume, at: int) -> None:
    """Merge layer `at` + 1 of a running disk into layer `at`. Raises HypervisorError."""
    layers = daemon.layers(volume.disk_id)
    base, top = layers[at], layers[at + 1]
    lower, upper = volume.chain[at], volume.chain[at + 1]
    active = at + 2 == len(layers)
    await daemon.reopen_layer(lower, base, read_only=False)
    if lower.format == "cow":
        there = await daemon.bitmaps(volume.disk_id, base)
        for name, bitmap in (await daemon.bitmaps(volume.disk_id, top)).items():
            if name not in there and bitmap.persistent and not bitmap.inconsistent:
                await daemon.execute("block-dirty-bitmap-add", node=base, name=name, persistent=True)
    job = f"commit-{top}"
    await daemon.execute(
        "block-commit",
        **{"job-id": job, "device": layers[-1], "top-node": top, "base-node": base, "auto-dismiss": False},
    )
    await daemon.finish_job(job, active=active)
    layers.remove(top)
    await daemon.close_node(top)
    upper.path.unlink(missing_ok=True)
    if not active:
        await daemon.reopen_layer(lower, base, read_only=True)


async def merge_cold(images: Images, volume: Volume, at: int) -> None:
    """The same for a VM that is down. Raises HypervisorError."""
    lower, upper = volume.chain[at], volume.chain[at + 1]
    if lower.format == "cow":
        there = (await images.info(lower)).bitmaps
        for name, flags in (await images.info(upper)).bitmaps.items():
            if "in-use" in flags:
                continue
            if name not in there:
                await images.add_bitmap(lower, name)
            elif "in-use" in there[name]:
                continue
            await images.merge_bitmap(lower, upper, name)
    await images.commit(upper, lower)
    if at + 2 < len(volume.chain):
        await images.rebase(volume.chain[at + 2], lower)
    upper.path.unlink(missing_ok=True)
