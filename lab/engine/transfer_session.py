# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of one image transfer: export, tickets, inactivity, the end and its verification."""

import json
import logging
import time
import uuid
from typing import Any

from lab.engine.core import Core, frozen_volume_of, volume_of
from lab.engine.disks import DiskCommands
from lab.engine.state import Backup, Disk, Transfer
from lab.hypervisor import BitmapBroken, HypervisorError
from lab.imageio import ImageioDaemon, ImageioError, TicketBusy
from lab.processes import CommandFailed

log = logging.getLogger(__name__)

PAUSED = ("paused_user", "paused_system")
TICKET_SECONDS = 300
RENEW_BELOW_SECONDS = 240
QCOW2_OVERHEAD = 1.1
QCOW2_HEADER = 1 << 20
TICKET_REASON = "failed to create a signed image ticket."
RENEWAL_REASON = "failed to renew the image ticket."


async def _removed(daemon: ImageioDaemon, ticket_id: str) -> bool:
    """False: to be tried again. Besides the 409 for a ticket in use the daemon may answer 500, when it closes a
    connection whose last operation is just ending; a dead daemon has no tickets."""
    try:
        await daemon.remove_ticket(ticket_id)
    except ImageioError as error:
        if not isinstance(error, TicketBusy):
            log.warning("ticket %s: %s", ticket_id, error)
        return not daemon.alive
    return True


class NoTicket(Exception):
    """The daemon has no such ticket."""


class PhaseFailed(Exception):
    """A fault ends the phase that the transfer is in."""


class TransferSession:
    def __init__(self, core: Core, disks: DiskCommands) -> None:
        self._core = core
        self._disks = disks
        self._expires: dict[str, float] = {}
        self._quiet_polls: dict[str, int] = {}

    def event(self, transfer: Transfer, code: int, text: str, severity: str = "normal") -> None:
        self._core.events.add(code, text, severity, host_id=transfer.host_id)

    def _tell(self, transfer: Transfer, code: int, how: str, severity: str = "normal") -> None:
        kind = transfer.direction.capitalize()
        self.event(transfer, code, f"Image {kind} with disk {transfer.disk_alias} {how}.", severity)

    async def run(self, transfer: Transfer) -> None:
        """From `initializing` to a finished phase."""
        job = self._core.jobs.begin(
            f"{transfer.direction.capitalize()}ing image of disk {transfer.disk_alias}"
        )
        self._tell(transfer, 1031, f"was initiated by {self._core.events.user_name}")
        poller = self._core.clock.poller()
        try:
            await poller.wait()
            if transfer.phase == "initializing" and await self._goes_on(transfer):
                await self._begin(transfer)
            while not transfer.over:
                await poller.wait()
                if await self._goes_on(transfer):
                    await self._poll(transfer)
        except Exception:
            log.exception("transfer %s failed", transfer.id)
            await self._give_up(transfer)
        self._expires.pop(transfer.id, None)
        self._quiet_polls.pop(transfer.id, None)
        self._core.jobs.end(job, succeeded=transfer.phase == "finished_success")

    async def _goes_on(self, transfer: Transfer) -> bool:
        """Where a fault may hold the transfer in its phase, or end that as TransferDiskImageCommand does: a session
        that cannot begin or be renewed is stopped by the system, an upload that does not verify is illegal."""
        phase = transfer.phase
        names = (transfer.id, transfer.disk_id, transfer.disk_alias, transfer.backup_id)
        try:
            await self._core.faults.at("transfer", phase, PhaseFailed(), *names)
            return True
        except PhaseFailed:
            if phase == "finalizing_success":
                await self._not_verified(transfer)
                return False
        code, reason = 1064, RENEWAL_REASON
        if phase == "initializing":
            code, reason = 1068, TICKET_REASON
        self.event(transfer, code, f"Transfer was stopped by system. Reason: {reason}", "error")
        self._stopped_by_system(transfer)
        return False

    async def _not_verified(self, transfer: Transfer) -> None:
        if not await self._close_session(transfer):
            return
        transfer.phase = "finalizing_failure"
        disk = self._core.state.disks.get(transfer.disk_id)
        if transfer.upload and disk is not None:
            disk.status = "illegal"

    async def _begin(self, transfer: Transfer) -> None:
        disk = self._core.disk(transfer.disk_id)
        disk.status = "locked"
        try:
            url = await self._export(transfer, disk)
        except (BitmapBroken, HypervisorError, CommandFailed):
            log.warning("transfer %s: the image could not be exported", transfer.id, exc_info=True)
            text = f"Transfer was stopped by system. Reason: {TICKET_REASON}"
            self.event(transfer, 1068, text, "error")
            self._stopped_by_system(transfer)
            return
        if not await self._add_tickets(transfer, self._ticket(transfer, disk, url)):
            self._stopped_by_system(transfer)
            return
        self._expires[transfer.id] = time.monotonic() + TICKET_SECONDS
        transfer.last_updated = self._core.clock.now()
        if transfer.phase == "initializing":
            transfer.phase = "transferring"

    async def _add_tickets(self, transfer: Transfer, ticket: dict[str, Any]) -> bool:
        """Without the host's ticket there is no transfer; without the proxy's there is only no `proxy_url`."""
        ticket_id = str(ticket["uuid"])
        host_url = f"{self._core.host_imageio.url}/images/{ticket_id}"
        try:
            await self._core.host_imageio.add_ticket(ticket)
        except ImageioError:
            log.warning("transfer %s: no ticket on the host", transfer.id, exc_info=True)
            text = "Transfer was stopped by system. Reason: failed to add image ticket to the host."
            self.event(transfer, 1069, text, "error")
            return False
        transfer.ticket_id = ticket_id
        transfer.transfer_url = f"{self._core.host_link.url}/images/{ticket_id}"
        try:
            await self._core.proxy_imageio.add_ticket({**ticket, "url": host_url})
            transfer.proxy_url = f"{self._core.proxy_link.url}/images/{ticket_id}"
        except ImageioError:
            log.warning("transfer %s: no ticket on the proxy", transfer.id, exc_info=True)
            self.event(transfer, 1075, "Failed to add image ticket to ovirt-imageio-proxy.", "warning")
        return True

    async def _export(self, transfer: Transfer, disk: Disk) -> str:
        """The url that the host's imageio opens."""
        backup = self._core.state.backups.get(transfer.backup_id or "")
        if backup is not None and backup.live:
            return self._core.hypervisor.live_backup_url(backup.id, disk.id)
        image_id = transfer.image_id
        if backup is not None and backup.hybrid:
            image_id = next(x.image_id for x in disk.below if x.snapshot_id == backup.snapshot_id)
        volume = frozen_volume_of(disk, image_id) if image_id else volume_of(disk)
        if volume is None:
            raise HypervisorError(f"disk {disk.alias} has no volume {image_id} any more")
        if transfer.format != "raw" and backup is None:
            return f"file://{volume.path}"
        bitmap = backup.from_checkpoint_id if backup and self._incremental(backup, disk) else None
        room = None
        if transfer.upload and disk.format == "cow":
            room = self._core.faults.room("disk_full", disk.id, disk.alias)
        return await self._core.hypervisor.export_volume(
            volume,
            export_id=transfer.id,
            readonly=not transfer.upload,
            bitmap=bitmap,
            room=room,
            shallow=transfer.shallow,
        )

    def _incremental(self, backup: Backup, disk: Disk) -> bool:
        return any(m.disk_id == disk.id and m.mode == "incremental" for m in backup.disks)

    def _ticket(self, transfer: Transfer, disk: Disk, url: str) -> dict[str, Any]:
        backup = self._core.state.backups.get(transfer.backup_id or "")
        return {
            "uuid": str(uuid.uuid4()),
            "size": self._size(transfer, disk, native=url.startswith("file:")),
            "url": url,
            "timeout": TICKET_SECONDS,
            "inactivity_timeout": transfer.inactivity_timeout,
            "ops": ["write"] if transfer.upload else ["read"],
            "transfer_id": transfer.id,
            "filename": disk.alias,
            "sparse": disk.sparse,
            "dirty": backup is not None and self._incremental(backup, disk),
        }

    def _size(self, transfer: Transfer, disk: Disk, *, native: bool) -> int:
        if not native or disk.format == "raw":
            return disk.provisioned_size
        if transfer.upload:
            return int(disk.provisioned_size * QCOW2_OVERHEAD) + QCOW2_HEADER
        return disk.path.stat().st_size

    async def _poll(self, transfer: Transfer) -> None:
        if transfer.phase == "resuming":
            await self._resume(transfer)
        elif transfer.phase == "transferring":
            await self._watch(transfer)
        elif transfer.phase == "finalizing_success":
            await self._finalize(transfer)
        elif transfer.phase in ("cancelled_user", "cancelled_system"):
            await self._clean_up(transfer)
        elif transfer.phase == "finalizing_failure":
            await self._fail(transfer)

    async def _resume(self, transfer: Transfer) -> None:
        if transfer.ticket_id is None:
            self._stopped_by_system(transfer)
            return
        await self._renew(transfer)
        transfer.phase = "transferring"

    async def _watch(self, transfer: Transfer) -> None:
        try:
            ticket = await self._get_ticket(transfer)
            await self._renew(transfer)
        except NoTicket:
            text = "Transfer was stopped by system. Reason: missing ticket."
            self.event(transfer, 1065, text, "error")
            self._stopped_by_system(transfer)
            return
        except ImageioError:
            self.event(transfer, 1064, f"Transfer was stopped by system. Reason: {RENEWAL_REASON}", "error")
            self._stopped_by_system(transfer)
            return
        if transfer.phase != "transferring":
            return
        transfer.active = bool(ticket["active"])
        transfer.transferred = int(ticket.get("transferred") or 0)
        if not transfer.active and self._idle(transfer, ticket) >= transfer.inactivity_timeout > 0:
            self._timed_out(transfer)
        elif self._read_in_full(transfer, ticket):
            transfer.phase = "finalizing_success"

    async def _get_ticket(self, transfer: Transfer) -> dict[str, Any]:
        assert transfer.ticket_id is not None
        ticket = await self._core.host_imageio.get_ticket(transfer.ticket_id)
        if ticket is None or ticket.get("canceled"):
            raise NoTicket
        return ticket

    def _idle(self, transfer: Transfer, ticket: dict[str, Any]) -> float:
        since_update = (self._core.clock.now() - transfer.last_updated).total_seconds()
        return min(float(ticket.get("idle_time") or 0), since_update)

    async def _renew(self, transfer: Transfer) -> None:
        """The engine, never the client, renews the tickets before they run out."""
        left = self._expires.get(transfer.id, 0) - time.monotonic()
        if left >= RENEW_BELOW_SECONDS or transfer.ticket_id is None:
            return
        await self._core.host_imageio.extend_ticket(transfer.ticket_id, TICKET_SECONDS)
        if transfer.proxy_url is not None:
            await self._core.proxy_imageio.extend_ticket(transfer.ticket_id, TICKET_SECONDS)
        self._expires[transfer.id] = time.monotonic() + TICKET_SECONDS

    def _read_in_full(self, transfer: Transfer, ticket: dict[str, Any]) -> bool:
        """A download whose every byte has been read and that was quiet for two polls is finalized for the client."""
        full = not transfer.upload and not transfer.active and transfer.transferred >= int(ticket["size"]) > 0
        count = self._quiet_polls.get(transfer.id, 0) + 1 if full else 0
        self._quiet_polls[transfer.id] = count
        return count >= 2

    def _timed_out(self, transfer: Transfer) -> None:
        if transfer.timeout_policy == "cancel":
            text = "The transfer was canceled by the system according to the timeout policy."
            self.event(transfer, 1076, f"{text} Reason: client inactivity timeout.", "warning")
            transfer.phase = "cancelled_system"
        elif transfer.timeout_policy == "pause":
            text = "The transfer was paused by the system according to the timeout policy."
            self.event(transfer, 1077, f"{text} Reason: client inactivity timeout.", "warning")
            transfer.phase = "paused_system"
        elif transfer.upload:
            text = "Upload was paused by system. Reason: timeout due to transfer inactivity."
            self.event(transfer, 1071, text, "warning")
            self._stopped_by_system(transfer)
        else:
            text = "Download was canceled by system. Reason: timeout due to transfer inactivity."
            self.event(transfer, 1072, text, "warning")
            self._stopped_by_system(transfer)

    def _stopped_by_system(self, transfer: Transfer) -> None:
        transfer.phase = "paused_system" if transfer.upload else "cancelled_system"

    async def _close_session(self, transfer: Transfer) -> bool:
        """Take tickets and export down; False while a client's request holds the ticket."""
        if transfer.ticket_id is not None:
            for daemon in (self._core.proxy_imageio, self._core.host_imageio):
                if not await _removed(daemon, transfer.ticket_id):
                    return False
        await self._core.hypervisor.close_export(transfer.id)
        transfer.ticket_id = transfer.transfer_url = transfer.proxy_url = None
        transfer.active = False
        return True

    async def _finalize(self, transfer: Transfer) -> None:
        if not await self._close_session(transfer):
            return
        disk = self._core.state.disks.get(transfer.disk_id)
        if transfer.upload and (disk is None or not await self._verified(disk)):
            transfer.phase = "finalizing_failure"
            if disk is not None:
                disk.status = "illegal"
            return
        # The disk is free before the phase says so, and the engine's lock goes last.
        self._unlock(transfer)
        await self._core.clock.pause(1)
        self._tell(transfer, 1032, "succeeded")
        self._finish(transfer, "finished_success")

    async def _verified(self, disk: Disk) -> bool:
        """What vdsm's verify_untrusted_volume checks: format, size and the absence of a backing file."""
        try:
            result = await self._core.processes.run("qemu-img", "info", "-U", "--output=json", str(disk.path))
        except CommandFailed:
            return False
        info = json.loads(result.stdout)
        wanted = "qcow2" if disk.format == "cow" else "raw"
        # A raw volume may hold anything; probing finds qcow2 only where a qcow2 was written natively.
        return (
            info["format"] == wanted
            and info["virtual-size"] <= disk.provisioned_size
            and "backing-filename" not in info
        )

    async def _clean_up(self, transfer: Transfer) -> None:
        """After a cancel. An upload takes its disk away, whether or not the disk was there before."""
        by_system = transfer.phase == "cancelled_system"
        if not await self._close_session(transfer):
            return
        if by_system and not transfer.upload:
            transfer.phase = "finalizing_failure"
            return
        transfer.phase = "finalizing_cleanup"
        await self._core.clock.pause(1)
        await self._remove_upload(transfer)
        self._unlock(transfer)
        transfer.phase = "finished_cleanup"
        await self._core.clock.pause(1)
        self._tell(transfer, 1033, "was cancelled")
        self._finish(transfer, "finished_failure")

    async def _fail(self, transfer: Transfer) -> None:
        await self._remove_upload(transfer)
        self._unlock(transfer)
        self._tell(transfer, 1034, "failed", "error")
        self._finish(transfer, "finished_failure")

    async def _remove_upload(self, transfer: Transfer) -> None:
        disk = self._core.state.disks.get(transfer.disk_id)
        if transfer.upload and disk is not None:
            await self._disks.destroy(disk)

    def _unlock(self, transfer: Transfer) -> None:
        # Also inside an open live or cold backup: the status then says `ok` too early, as in the engine.
        disk = self._core.state.disks.get(transfer.disk_id)
        if disk is not None:
            disk.status = "ok"

    def _finish(self, transfer: Transfer, phase: str) -> None:
        transfer.phase = phase
        transfer.ended = transfer.last_updated = self._core.clock.now()

    async def _give_up(self, transfer: Transfer) -> None:
        """After an error of the lab itself: end the session as a failed one, so that nothing stays locked."""
        try:
            await self._close_session(transfer)
        except Exception:
            log.exception("transfer %s could not be closed", transfer.id)
        self._unlock(transfer)
        self._finish(transfer, "finished_failure")
