# SPDX-License-Identifier: GPL-3.0-or-later
"""Proofs and pokes for flow tests: what is on the Manager, what is in its disks, and how to stop things midway."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ovirtsdk4 as sdk

from backups import services as backups
from backups.models import Repository, RestorePoint
from backups.store.repository import Repository as Store
from portal.accounts.models import User
from portal.environments import services as environments
from portal.environments.models import Environment, VirtualMachine
from portal.jobs.models import Job, JobStep
from portal.ovirt import vm_backup
from portal.ovirt.connection import connect
from restores import services as restores
from restores.models import Restore
from restores.plans import plan_new_vm
from tests.lab_support import RunningLab
from tests.worker_support import finished, wait_for

SLOW_ON_SECONDS, SLOW_OFF_SECONDS = 0.01, 0.1
MAGIC = b"OVBPSEQ1"
TRANSFER_ENDED = ("finished_success", "finished_failure", "finished_cleanup")


# --- the Manager --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def manager(environment: Environment) -> Iterator[Any]:
    """The Manager's system service."""
    with connect(environment.address()) as connection:
        yield connection.system_service()


@dataclass(frozen=True)
class OnManager:
    """What a job could leave behind. `checkpoints` and `snapshots` (without the active one) by VM id."""

    disks: frozenset[str]
    vms: frozenset[str]
    locked: frozenset[str]
    open_backups: frozenset[str]
    open_transfers: frozenset[str]
    checkpoints: dict[str, tuple[str, ...]]
    snapshots: dict[str, frozenset[str]]


def on_manager(environment: Environment) -> OnManager:
    with manager(environment) as system:
        disks = system.disks_service().list()
        vms = system.vms_service().list()
        services = {vm.id: system.vms_service().vm_service(vm.id) for vm in vms}
        opened = [
            item.id
            for service in services.values()
            for item in service.backups_service().list()
            if item.phase.value not in vm_backup.FINAL
        ]
        transfers = system.image_transfers_service().list()
        return OnManager(
            disks=frozenset(disk.id for disk in disks),
            vms=frozenset(services),
            locked=frozenset(disk.id for disk in disks if disk.status.value != "ok"),
            open_backups=frozenset(opened),
            open_transfers=frozenset(t.id for t in transfers if t.phase.value not in TRANSFER_ENDED),
            checkpoints={
                vm_id: tuple(item.id for item in service.checkpoints_service().list())
                for vm_id, service in services.items()
            },
            snapshots={vm_id: _snapshots(service) for vm_id, service in services.items()},
        )


def _snapshots(service: Any) -> frozenset[str]:
    return frozenset(
        item.id
        for item in service.snapshots_service().list()
        if item.snapshot_type != sdk.types.SnapshotType.ACTIVE
    )


def assert_manager_is_clean(
    environment: Environment, before: OnManager, *, new_vm: str | None = None, new_disks: int = 0
) -> OnManager:
    """Nothing is open or locked and nothing was added, but the wanted VM and its disks. Returns what is there."""
    now = on_manager(environment)
    assert not now.open_backups
    assert not now.open_transfers
    assert not now.locked
    assert {vm_id: now.snapshots.get(vm_id) for vm_id in before.vms} == before.snapshots
    assert now.vms - before.vms == ({new_vm} if new_vm else set())
    assert before.vms <= now.vms
    assert before.disks <= now.disks
    assert len(now.disks - before.disks) == new_disks
    return now


def checkpoints_of(environment: Environment, vm: VirtualMachine) -> tuple[str, ...]:
    return on_manager(environment).checkpoints[str(vm.manager_id)]


def remove_checkpoints(environment: Environment, vm: VirtualMachine) -> None:
    """Behind the portal's back."""
    with connect(environment.address()) as connection:
        for item in vm_backup.checkpoints(connection, vm_id=str(vm.manager_id)):
            vm_backup.remove_checkpoint(
                connection,
                vm_id=str(vm.manager_id),
                checkpoint_id=item.checkpoint_id,
                pause=time.sleep,
                timeout_seconds=20,
            )


def wait_status(environment: Environment, vm: VirtualMachine, status: str) -> None:
    with manager(environment) as system:
        service = system.vms_service().vm_service(str(vm.manager_id))
        wait_for(lambda: service.get().status.value == status, what=f"{vm.name} is {status}", seconds=20)


def is_down(environment: Environment, vm: VirtualMachine) -> bool:
    with manager(environment) as system:
        return bool(system.vms_service().vm_service(str(vm.manager_id)).get().status.value == "down")


def set_power(environment: Environment, vm: VirtualMachine, *, up: bool) -> None:
    with manager(environment) as system:
        service = system.vms_service().vm_service(str(vm.manager_id))
        service.start() if up else service.stop()
    wait_status(environment, vm, "up" if up else "down")


@contextlib.contextmanager
def level(environment: Environment, vm: VirtualMachine, minor: int) -> Iterator[None]:
    """The machine, which is down, at a level of its own for a while; the portal has seen it."""

    def take_on(version: sdk.types.Version) -> None:
        with manager(environment) as system:
            system.vms_service().vm_service(str(vm.manager_id)).update(
                sdk.types.Vm(custom_compatibility_version=version)
            )
        environments.refresh_inventory(environment)
        vm.refresh_from_db()

    take_on(sdk.types.Version(major=4, minor=minor))
    try:
        yield
    finally:
        take_on(sdk.types.Version(major=4, minor=6))


def remove_vm(environment: Environment, vm_id: str) -> None:
    """With its disks."""
    with manager(environment) as system:
        service = system.vms_service().vm_service(vm_id)
        service.remove()

        def gone() -> bool:
            try:
                service.get()
            except sdk.NotFoundError:
                return True
            return False

        wait_for(gone, what="the restored machine is removed", seconds=20)


# --- jobs ---------------------------------------------------------------------------------------------------


def back_up(actor: User, vm: VirtualMachine, **options: Any) -> RestorePoint:
    """A backup that succeeds; its point."""
    return point_of(succeeded(backups.start_vm_backup(actor=actor, vm=vm, **options)))


def succeeded(job: Job, *, seconds: float = 90) -> Job:
    finished(job, seconds=seconds)
    assert job.state == "succeeded", (
        job.state,
        job.error_code,
        job.error_message,
        job.error_detail,
        told(job),
    )
    return job


def point_of(job: Job) -> RestorePoint:
    return RestorePoint.objects.get(uuid=job.result["point"])


def job_of(point: RestorePoint) -> Job:
    assert point.job is not None
    return point.job


def start_restore(actor: User, point: RestorePoint, name: str) -> Job:
    plan = plan_new_vm(point, name=name)
    return restores.start_restore(actor=actor, point=point, plan=plan, plan_hash=plan.hash).job


def restore(actor: User, point: RestorePoint, name: str) -> Restore:
    return Restore.objects.get(job=succeeded(start_restore(actor, point, name)))


def told(job: Job) -> str:
    return "\n".join(job.log_lines.order_by("id").values_list("text", flat=True))


def wait_running(job: Job, step: str) -> None:
    """Until the step whose name begins so is running."""

    def running() -> bool:
        return JobStep.objects.filter(job=job, name__startswith=step, state="running").exists()

    wait_until_fast(running, job, what=f"step {step} of {job.title}")


def wait_remembered(job: Job, key: str) -> None:
    """Until the job's memory holds the key: the outside thing is about to exist, or does."""

    def known() -> bool:
        return bool(Job.objects.values_list("resume_state", flat=True).get(pk=job.pk).get(key))

    wait_until_fast(known, job, what=f"{key} of {job.title}")


def wait_until_fast(condition: Callable[[], Any], job: Job, *, what: str, seconds: float = 30) -> None:
    """Like wait_for, but looks often and fails at once when the job ends before."""
    deadline = time.monotonic() + seconds
    while not condition():
        job.refresh_from_db()
        assert not job.is_finished, (
            f"{job.title} ended as {job.state} before {what}\n{job.error_message}\n{told(job)}"
        )
        assert time.monotonic() < deadline, f"waited for {what}\n{told(job)}"
        time.sleep(0.003)


# --- processes of the lab -----------------------------------------------------------------------------------


def children_of(lab: RunningLab, word: str) -> list[int]:
    """Processes of the lab whose command line holds the word."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if word in command and str(lab.dir) in command and int(entry.name) != lab.process.pid:
            found.append(int(entry.name))
    assert found, f"the lab has no process with {word!r}"
    return found


@contextlib.contextmanager
def slow_image_server(lab: RunningLab) -> Iterator[None]:
    """The host's imageio runs a small part of the time only, so that there is a middle of reading and writing."""
    pids = children_of(lab, "imageio-host")
    stop = threading.Event()

    def brake() -> None:
        while not stop.is_set():
            with frozen(pids):
                stop.wait(SLOW_OFF_SECONDS)
            stop.wait(SLOW_ON_SECONDS)

    thread = threading.Thread(target=brake)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def frozen(pids: list[int]) -> Iterator[None]:
    for pid in pids:
        _signal(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            _signal(pid, signal.SIGCONT)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def worker_pid(job: Job) -> int:
    return int(job.attempts.latest("number").worker.rpartition(":")[2])


# --- disks --------------------------------------------------------------------------------------------------


def volume(lab: RunningLab, disk_id: str) -> Path:
    """The image file of a disk in the lab's storage."""
    return next((lab.dir / "storage").glob(f"*/{disk_id}/*"))


def volume_digest(lab: RunningLab, disk_id: str, block_size: int) -> str:
    """imageio's digest of the guest data of a volume that nobody writes to, by qemu-img and hashlib alone."""
    with tempfile.TemporaryDirectory(dir=lab.dir) as folder:
        raw = Path(folder) / "disk.raw"
        command = ["qemu-img", "convert", "-U", "-O", "raw", str(volume(lab, disk_id)), str(raw)]
        subprocess.run(command, check=True, capture_output=True)
        return file_digest(raw, block_size)


def file_digest(path: Path, block_size: int) -> str:
    outer, zeros = hashlib.sha256(), bytes(block_size)
    of_zeros = hashlib.sha256(zeros).digest()
    with path.open("rb") as file:
        while block := file.read(block_size):
            outer.update(of_zeros if block == zeros else hashlib.sha256(block).digest())
    return outer.hexdigest()


def assert_equals_volumes(lab: RunningLab, point: RestorePoint, disk_ids: list[str] | None = None) -> None:
    """Each disk of the point is, bit for bit, the volume (its own, or those given in the point's order)."""
    disks = list(point.disks.all())
    ids = disk_ids or [str(disk.manager_id) for disk in disks]
    for disk, disk_id in zip(disks, ids, strict=True):
        assert disk.digest == volume_digest(lab, disk_id, disk.chunk_size), disk.alias


def journal(lab: RunningLab, vm: VirtualMachine) -> list[dict[str, Any]]:
    """What the guest wrote, by its own word, oldest first."""
    text = (lab.dir / "journals" / f"{vm.name}.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


# By lab and machine: the last write before its newest power cut. What was not flushed then may be gone.
_power_cuts: dict[tuple[Path, str], int] = {}


def note_power_cut(lab: RunningLab, vm: VirtualMachine) -> None:
    """To be called when the machine's qemu was killed, before it is started again."""
    _power_cuts[lab.dir, vm.name] = max((write["seq"] for write in journal(lab, vm)), default=0)


def assert_one_moment(lab: RunningLab, point: RestorePoint) -> None:
    """The point shows the guest's writes up to one write and none after it, though the guest wrote on meanwhile."""
    writes = journal(lab, point.vm)
    seen = _guest_blocks(point, {write["offset"]: write["length"] for write in writes})
    last = max(number for number, _ in seen.values())
    newest = {write["offset"]: write for write in writes if write["seq"] <= last}
    cut = _power_cuts.get((lab.dir, point.vm.name), 0)
    newest = {offset: write for offset, write in newest.items() if write["seq"] > cut}
    wrong = {
        offset: (seen.get(offset), write["seq"], write["sha256"])
        for offset, write in newest.items()
        if seen.get(offset, (0, ""))[1] != write["sha256"]
    }
    assert not wrong, f"up to {last}: what is seen, what the guest wrote last {wrong}"
    assert point.job is not None
    ended = point.job.steps.get(name="end").started_at
    assert ended is not None
    assert any(write["seq"] > last and write["finished"] < ended.timestamp() for write in writes)


def _guest_blocks(point: RestorePoint, places: dict[int, int]) -> dict[int, tuple[int, str]]:
    """(sequence number, SHA-256) by offset, of the disk that has the guest's blocks."""
    store = point.repository.open()
    stored = store.open_point(point.vm.environment.uuid, point.vm.manager_id, point.uuid)
    best: dict[int, tuple[int, str]] = {}
    for disk_id in stored.disk_ids:
        found = {}
        with stored.index(disk_id) as index:
            chunks: dict[int, bytes] = {}
            for offset, length in sorted(places.items()):
                number, inside = divmod(offset, index.chunk_size)
                if number not in chunks:
                    chunks = {
                        number: bytes(store.chunks.read(index.chunk_id(number), index.length_of(number)))
                    }
                block = chunks[number][inside : inside + length]
                if block.startswith(MAGIC):
                    found[offset] = (int.from_bytes(block[8:16], "little"), hashlib.sha256(block).hexdigest())
        best = max(best, found, key=len)
    assert best, "no block of the guest's is in the point"
    return best


def assert_new_machine(lab: RunningLab, before: OnManager, job: Job) -> None:
    """The one new machine has the restored disks and no other; it is removed again."""
    restore = Restore.objects.get(job=job)
    environment = restore.point.vm.environment
    new_id = str(restore.new_vm_id)
    try:
        disks = restore.point.disks.count()
        assert_manager_is_clean(environment, before, new_vm=new_id, new_disks=disks)
        with manager(environment) as system:
            attached = system.vms_service().vm_service(new_id).disk_attachments_service().list(follow="disk")
            nics = system.vms_service().vm_service(new_id).nics_service().list()
        by_alias = {item.disk.alias: item.disk.id for item in attached}
        assert_equals_volumes(
            lab, restore.point, [by_alias[disk.alias] for disk in restore.point.disks.all()]
        )
        assert not any(nic.plugged for nic in nics)
    finally:
        remove_vm(environment, new_id)


def make_everything_old(store: Store) -> None:
    """Chunks, and the trash: as if nothing had happened for long."""
    long_ago = time.time() - 10 * store.gc_age_seconds
    for path in [*store.chunks.folder.glob("*/*"), *(store.path / "trash").rglob("*")]:
        os.utime(path, (long_ago, long_ago))


def guest_wrote(lab: RunningLab, vm: VirtualMachine, count: int) -> None:
    """Wait until the guest has written that many more blocks."""
    target = len(journal(lab, vm)) + count
    wait_for(lambda: len(journal(lab, vm)) >= target, what=f"{count} writes of the guest", seconds=20)


def wait_reading(job: Job) -> None:
    """Until chunks of the job's disk are being written to the repository."""
    folder = Path(Repository.objects.get(uuid=job.params["repository"]).path) / "tmp"
    wait_running(job, "disk-")
    wait_until_fast(lambda: any(folder.glob("*/*")), job, what="a chunk of the disk")


def wait_uploading(job: Job) -> None:
    """Until the upload of a disk is open."""
    wait_running(job, "write-")
    wait_remembered(job, "transfers")


def kill_worker(job: Job) -> None:
    os.kill(worker_pid(job), signal.SIGKILL)


def staged_points(vm: VirtualMachine, path: str) -> list[Path]:
    """Folders of points of that VM that have no manifest."""
    folder = Path(path) / "points" / str(vm.environment.uuid) / str(vm.manager_id)
    return [each for each in folder.glob("*") if not (each / "manifest.json").exists()]


def has_open(pid: int, path: Path) -> bool:
    """Whether the process has the file open."""
    links = Path(f"/proc/{pid}/fd").iterdir()
    return any(link.resolve() == path.resolve() for link in links if link.is_symlink())


def wait_told(job: Job, words: str) -> None:
    """Until the job's log holds these words."""
    wait_until_fast(lambda: words in told(job), job, what=f"{words!r} in the log of {job.title}")
