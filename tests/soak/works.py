# SPDX-License-Identifier: GPL-3.0-or-later
"""What is killed: jobs of every kind, and what runs as a process of its own.

Each work can be begun, looked at, killed, waited for and judged. A judge returns what is wrong, in words.
"""

import contextlib
import os
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings

from backups import services as backups
from backups import upkeep
from backups.models import Repository, RestorePoint
from backups.store.repository import PointRef
from backups.store.verify import verify_point
from portal.accounts.models import User
from portal.environments.models import Environment, VirtualMachine
from portal.jobs.models import Job
from portal.jobs.states import JobState
from restores.models import Restore
from tests.flows import support
from tests.lab_support import RunningLab
from tests.worker_support import finished

KILLED = ("the worker fell silent", "the worker was stopped")
JOB_SECONDS = 240
# Whose backups take a snapshot of the Manager; the others of the soak are of 4.6.
HYBRID_LEVEL = "4.7"


@dataclass
class Stage:
    """Where everything plays. `children` is the environment (variables) of processes that work on the database."""

    lab: RunningLab
    environment: Environment
    repository: Repository
    actor: User
    children: Mapping[str, str]
    # By machine: the portal's newest restore point of it.
    points: dict[str, RestorePoint] = field(default_factory=dict)

    def vm(self, name: str) -> VirtualMachine:
        return self.environment.vms.get(name=name)

    def remember(self, point: RestorePoint) -> None:
        self.points[point.vm.name] = point


class Work(ABC):
    """One thing that is begun, killed and judged."""

    kind: str
    machine: str

    def __init__(self, stage: Stage, machine: str) -> None:
        self.stage = stage
        self.machine = machine
        # Machines and disks that the Manager is meant to have afterwards and did not have before.
        self.new_vms: list[str] = []
        self.new_disks = 0

    @abstractmethod
    def begin(self) -> None: ...

    @abstractmethod
    def is_running(self) -> bool:
        """Somebody is at work on it, so that a kill can hit it."""

    @abstractmethod
    def is_over(self) -> bool: ...

    @abstractmethod
    def phase(self) -> str: ...

    @abstractmethod
    def kill(self, number: signal.Signals) -> None: ...

    @abstractmethod
    def end(self) -> None:
        """Wait for the end, however it comes."""

    @abstractmethod
    def hits(self) -> int:
        """How many attempts at it were ended by a kill."""

    @abstractmethod
    def ending(self) -> str: ...

    @abstractmethod
    def judge(self) -> list[str]:
        """What is wrong with how it ended."""

    def tidy(self) -> None:
        """Take away what it was meant to make, so that the next comparison is simple."""


class JobWork(Work):
    job: Job

    def is_running(self) -> bool:
        self.job.refresh_from_db()
        return self.job.state == JobState.RUNNING

    def is_over(self) -> bool:
        self.job.refresh_from_db()
        return self.job.is_finished

    def phase(self) -> str:
        """The step under way, by its name, without the id of a disk."""
        step = self.job.steps.filter(state="running").order_by("-position").first()
        return step.name.partition("-")[0] if step else "-"

    def kill(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(support.worker_pid(self.job), number)

    def end(self) -> None:
        finished(self.job, seconds=JOB_SECONDS)

    def hits(self) -> int:
        return self.job.attempts.filter(ending__in=KILLED).count()

    def ending(self) -> str:
        return " ".join([self.job.state, self.job.error_code]).strip()

    def judge(self) -> list[str]:
        job = self.job
        wrong = []
        if job.locks.exists():
            wrong.append("it still holds locks")
        if job.steps.filter(state="running").exists():
            wrong.append("a step is still running")
        if job.attempts.filter(ended_at=None).exists():
            wrong.append("an attempt has no end")
        if job.warnings:
            wrong.append(f"warnings: {job.warnings}")
        if job.state == JobState.SUCCEEDED:
            return wrong + self.judge_success()
        gave_up = job.error_code == "gave_up" and self.hits() >= settings.JOB_MAX_ATTEMPTS
        if job.state != JobState.FAILED or not gave_up or not (job.error_message and job.error_hint):
            wrong.append(f"{job.state}: {job.error_code} {job.error_message} {job.error_detail}")
        return wrong + self.judge_giving_up()

    @abstractmethod
    def judge_success(self) -> list[str]: ...

    def judge_giving_up(self) -> list[str]:
        return []


class Backup(JobWork):
    def __init__(self, stage: Stage, machine: str, *, full: bool) -> None:
        super().__init__(stage, machine)
        self.full = full
        self.kind = "full backup" if full else "incremental"

    def begin(self) -> None:
        vm = self.stage.vm(self.machine)
        self.job = backups.start_vm_backup(actor=self.stage.actor, vm=vm, full=self.full)

    def judge_success(self) -> list[str]:
        point = support.point_of(self.job)
        self.stage.remember(point)
        wrong = self._unwhole(point)
        if RestorePoint.objects.filter(job=self.job).count() != 1:
            wrong.append("it has several restore points")
        if self.full and point.mode != "full":
            wrong.append(f"a full one was asked for, it is {point.mode}")
        try:
            if point.vm_was_up:
                support.assert_one_moment(self.stage.lab, point)
            else:
                support.assert_equals_volumes(self.stage.lab, point)
        except AssertionError as error:
            wrong.append(f"it is not the machine's disk: {str(error)[:300]}")
        return wrong

    def judge_giving_up(self) -> list[str]:
        return ["it failed, but has a point"] if RestorePoint.objects.filter(job=self.job).exists() else []

    def _unwhole(self, point: RestorePoint) -> list[str]:
        store = self.stage.repository.open()
        stored = store.open_point(self.stage.environment.uuid, str(point.vm.manager_id), point.uuid)
        result = verify_point(stored)
        wrong = [] if result.good else [f"the point is not whole: {result.bad} {result.damaged_files}"]
        flow, level = stored.manifest["flow"], point.vm.compatibility
        if (flow == "hybrid") != (level == HYBRID_LEVEL):
            wrong.append(f"its flow is {flow} at level {level}")
        return wrong


class RestoreAsNew(JobWork):
    kind = "restore as new"
    _number = 0

    def begin(self) -> None:
        RestoreAsNew._number += 1
        name = f"{self.machine}-soak-{RestoreAsNew._number}"
        self.job = support.start_restore(self.stage.actor, self.stage.points[self.machine], name)

    def judge_success(self) -> list[str]:
        restore = Restore.objects.get(job=self.job)
        self.new_vms = [str(restore.new_vm_id)]
        self.new_disks = restore.point.disks.count()
        wrong = []
        with support.manager(self.stage.environment) as system:
            service = system.vms_service().vm_service(self.new_vms[0])
            attached = service.disk_attachments_service().list(follow="disk")
            if any(nic.plugged for nic in service.nics_service().list()):
                wrong.append("its network is plugged")
        ids = {item.disk.alias: item.disk.id for item in attached}
        in_order = [ids.get(disk.alias) for disk in restore.point.disks.all()]
        if None in in_order or len(attached) != len(in_order):
            return [*wrong, f"its disks are {sorted(ids)}"]
        try:
            support.assert_equals_volumes(self.stage.lab, restore.point, in_order)
        except AssertionError as error:
            wrong.append(f"it differs from the point: {error}")
        if restore.proven_at is None:
            wrong.append("its equality was not noted")
        return wrong

    def tidy(self) -> None:
        for vm_id in self.new_vms:
            support.remove_vm(self.stage.environment, vm_id)


class Verify(JobWork):
    kind = "verify"

    def begin(self) -> None:
        self.point = self.stage.points[self.machine]
        self.job = backups.verify_restore_point(actor=self.stage.actor, point=self.point)

    def judge_success(self) -> list[str]:
        self.point.refresh_from_db()
        good = self.point.verified_at is not None and not self.point.verify_problem
        return [] if good else [f"verified {self.point.verified_at}, {self.point.verify_problem}"]


class CollectGarbage(JobWork):
    kind = "garbage collection"

    def begin(self) -> None:
        self.stage.repository.open().purge_trash(older_than_seconds=0)
        self.job = upkeep.start_collection(actor=self.stage.actor, repository=self.stage.repository)

    def judge_success(self) -> list[str]:
        left = list(self.stage.repository.open().chunks.temporary.glob("gc-*"))
        return [f"it left {left}"] if left else []


class VerifyRepository(JobWork):
    kind = "verify repository"

    def begin(self) -> None:
        self.job = upkeep.verify_repository(actor=self.stage.actor, repository=self.stage.repository)

    def judge_success(self) -> list[str]:
        self.stage.repository.refresh_from_db()
        problem = self.stage.repository.verify_problem
        return [problem] if problem else []


class Alone(Work):
    """Something that is not a job: a process of its own, begun again after it was killed."""

    def __init__(self, stage: Stage, machine: str) -> None:
        super().__init__(stage, machine)
        self._killed = 0
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def arguments(self) -> list[str]: ...

    def begin(self) -> None:
        self._process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        """Returns when the process has come to its real work."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.soak.alone", *self.arguments()],
            env=dict(self.stage.children),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        process.stdout.readline()
        return process

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def is_over(self) -> bool:
        return not self.is_running()

    def phase(self) -> str:
        return "-"

    def kill(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait()
        if self._process.returncode == -number:
            self._killed += 1

    def end(self) -> None:
        assert self._process is not None
        if self._killed:
            self._process.communicate()
            self._process = self._start()
        _, errors = self._process.communicate(timeout=JOB_SECONDS)
        self._errors = errors.decode(errors="replace")

    def hits(self) -> int:
        return self._killed

    def ending(self) -> str:
        assert self._process is not None
        return "succeeded" if self._process.returncode == 0 else f"exit code {self._process.returncode}"

    def judge(self) -> list[str]:
        assert self._process is not None
        return self.judge_result() if self._process.returncode == 0 else [self._errors[-1500:]]

    @abstractmethod
    def judge_result(self) -> list[str]: ...


class DeletePoint(Alone):
    """The newest point but one of a machine: the newest is the next incremental's base."""

    kind = "delete to trash"

    def begin(self) -> None:
        self.point = RestorePoint.objects.kept().filter(vm__name=self.machine).order_by("-taken_at")[1]
        super().begin()

    def arguments(self) -> list[str]:
        return [str(self.point.uuid), self.stage.actor.get_username()]

    def judge_result(self) -> list[str]:
        self.point.refresh_from_db()
        store = self.stage.repository.open()
        names: dict[str, Any] = {"environment_uuid": self.stage.environment.uuid}
        kept = [ref.point_uuid for ref in store.points(**names)]
        trashed = [ref.point_uuid for ref in store.points(**names, trashed=True)]
        ref = PointRef(
            str(self.stage.environment.uuid), str(self.point.vm.manager_id), str(self.point.uuid), True
        )
        wrong = []
        if self.point.deleted_at is None:
            wrong.append("its row says that it is kept")
        if str(self.point.uuid) in kept:
            wrong.append("it is still visible")
        # A collection beside it may have emptied the trash already.
        if str(self.point.uuid) not in trashed and store.folder_of(ref).exists():
            wrong.append("it is not in the trash")
        return wrong
