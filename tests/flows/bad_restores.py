# SPDX-License-Identifier: GPL-3.0-or-later
"""A restore with something going wrong in it, and everything that must hold afterwards."""

from dataclasses import dataclass
from typing import Any

from backups.models import RestorePoint
from portal.environments.models import Environment
from portal.jobs.models import Job
from tests.flows import support
from tests.lab_support import LabControl, RunningLab
from tests.worker_support import finished

# Where a restore asks the Manager for something, by the phase in which it does.
PLACES = {
    "sign-on": ("POST", "/ovirt-engine/sso/oauth/token"),
    "looking at the storage": ("GET", "/datacenters/*/storagedomains"),
    "looking for the name": ("GET", "/vms"),
    "looking for the disk": ("GET", "/disks/*"),
    "creating the disk": ("POST", "/disks"),
    "opening the upload": ("POST", "/imagetransfers"),
    "waiting for the upload": ("GET", "/imagetransfers/*"),
    "ending the upload": ("POST", "/imagetransfers/*/finalize"),
    "creating the machine": ("POST", "/vms"),
    "waiting for the machine": ("GET", "/vms/*"),
    "attaching": ("POST", "/vms/*/diskattachments"),
    "listing what is attached": ("GET", "/vms/*/diskattachments"),
    "looking at the network": ("GET", "/vms/*/nics"),
}


@dataclass
class Day:
    """One lab, one point, and what to try on it."""

    lab: RunningLab
    point: RestorePoint
    actor: Any
    number: int = 0

    @property
    def control(self) -> LabControl:
        return self.lab.control

    def start(self) -> Job:
        self.number += 1
        return support.start_restore(self.actor, self.point, f"{self.point.vm_name}-again-{self.number}")

    def goes_well(self, fault: dict[str, Any], *, strikes: bool = True) -> list[str]:
        """What is wrong with a restore during which that fault lay in wait."""
        environment = self.point.vm.environment
        before = support.on_manager(environment)
        with self.control.fault(**fault) as laid:
            job = finished(self.start())
            struck = laid.struck
        return self.judge(before, job) if struck or not strikes else ["the fault did not strike"]

    def judge(self, before: support.OnManager, job: Job, *, warnings: int = 0) -> list[str]:
        if job.state != "succeeded":
            return [
                f"{job.state} {job.error_code}: {job.error_message} {job.error_detail}",
                support.told(job),
            ]
        try:
            support.assert_new_machine(self.lab, before, job)
        except AssertionError as error:
            return [f"succeeded, but {error}", support.told(job)]
        return [] if len(job.warnings) == warnings else [f"warnings: {job.warnings}"]


def ends_cleanly(day: Day, environment: Environment, fault: dict[str, Any], codes: str) -> Job:
    """A restore that fails with one of these codes, clearly and without a trace; the next one goes well."""
    before = support.on_manager(environment)
    with day.control.fault(**fault):
        job = finished(day.start(), seconds=200)
    assert job.state == "failed", support.told(job)
    assert job.error_code in codes.split(), (job.error_code, job.error_message)
    assert job.error_message
    assert job.error_hint
    assert not job.warnings
    assert support.on_manager(environment) == before
    again = finished(day.start())
    assert day.judge(before, again) == []
    return job
