# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine's backup with something going wrong in it, and everything that must hold afterwards."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from backups import services as backups
from backups.models import Repository, RestorePoint
from backups.store.verify import verify_point
from portal.accounts.models import User
from portal.environments.models import Environment, VirtualMachine
from portal.jobs.models import Job
from tests.flows import support
from tests.lab_support import RunningLab
from tests.worker_support import finished, wait_for

Happens = Callable[[Job], None]


def nothing(job: Job) -> None:
    """Beyond the faults that lie in wait."""


@dataclass
class BadDay:
    """The Manager as it was before, and the machine's first backup, which went well."""

    lab: RunningLab
    environment: Environment
    repository: Repository
    actor: User
    vm: VirtualMachine

    def __post_init__(self) -> None:
        support.back_up(self.actor, self.vm)
        self.before = support.on_manager(self.environment)

    def backup(
        self,
        *faults: contextlib.AbstractContextManager[object],
        happens: Happens = nothing,
        ends: str = "succeeded",
        seconds: float = 150,
        full: bool = False,
    ) -> Job:
        """One backup during which `happens`, to its end, which must be `ends` and clean. The faults are over then."""
        points = set(self._points())
        with contextlib.ExitStack() as stack:
            for fault in faults:
                stack.enter_context(fault)
            job = backups.start_vm_backup(actor=self.actor, vm=self.vm, full=full)
            happens(job)
            finished(job, seconds=seconds)
        told = support.told(job)
        assert job.state == ends, (job.state, job.error_code, job.error_message, job.error_detail, told)
        assert not job.steps.filter(state="running").exists()
        assert not job.locks.exists()
        made = set(self._points()) - points
        assert len(made) == (ends == "succeeded"), told
        if ends == "failed":
            assert job.error_message and job.error_code != "unexpected", (job.error_detail, told)
        return job

    def is_over(self) -> None:
        """Nothing is left anywhere, every visible point is whole, and the next backup goes well."""
        wait_for(
            lambda: not support.on_manager(self.environment).locked, what="all disks are free", seconds=60
        )
        support.assert_manager_is_clean(self.environment, self.before)
        assert support.staged_points(self.vm, self.repository.path) == []
        store = self.repository.open()
        for uuid in self._points():
            stored = store.open_point(self.environment.uuid, self.vm.manager_id, uuid)
            assert verify_point(stored).good, uuid
        after = support.back_up(self.actor, self.vm)
        if support.is_down(self.environment, self.vm):
            support.assert_equals_volumes(self.lab, after)
        else:
            support.assert_one_moment(self.lab, after)
        support.assert_manager_is_clean(self.environment, self.before)

    def _points(self) -> list[str]:
        found = RestorePoint.objects.filter(vm=self.vm, repository=self.repository)
        return [str(uuid) for uuid in found.values_list("uuid", flat=True)]
