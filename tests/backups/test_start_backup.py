# SPDX-License-Identifier: GPL-3.0-or-later
import pytest

from backups import services
from backups.errors import BackupAlreadyRunning, NoRepository, NothingToBackUp
from portal.audit.models import AuditEntry
from portal.errors import NotAllowed
from portal.jobs.models import Job
from portal.jobs.states import JobState
from tests.factories import DiskFactory, JobFactory, RepositoryFactory

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]


def test_an_operator_orders_a_backup_into_the_default_repository(people, vm, settings):
    RepositoryFactory(name="a first one")
    default = RepositoryFactory(name="the default", is_default=True)
    job = services.start_vm_backup(
        actor=people.bob, vm=vm, full=True, ticket="CHG-7", reason="before the upgrade"
    )
    assert (job.state, job.task, job.vm) == (JobState.PENDING, "backups.vm_backup", vm)
    assert job.params == {"repository": str(default.uuid), "full": True}
    assert (job.ticket, job.reason, job.requested_by_name) == ("CHG-7", "before the upgrade", "bob")
    keys = {item["key"]: (item["mode"], item["limit"]) for item in job.lock_keys}
    assert keys == {
        f"vm:{vm.uuid}": ("exclusive", None),
        f"environment:{vm.environment.uuid}": ("shared", settings.ENVIRONMENT_JOBS),
        f"repository:{default.uuid}": ("shared", None),
    }
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor_name, entry.object_label) == ("backup.start", "bob", "web-01")
    assert (entry.data, entry.ticket) == ({"job": str(job.uuid)}, "CHG-7")


@pytest.mark.parametrize("name", ["carol", "dave"])
def test_viewers_and_strangers_start_nothing(people, vm, name):
    RepositoryFactory()
    with pytest.raises(NotAllowed, match="back up"):
        services.start_vm_backup(actor=getattr(people, name), vm=vm)
    assert not Job.objects.exists()
    assert not AuditEntry.objects.exists()


def test_without_a_repository_nothing_is_started(people, vm):
    with pytest.raises(NoRepository):
        services.start_vm_backup(actor=people.bob, vm=vm)
    assert not Job.objects.exists()


def test_a_machine_without_a_disk_that_can_be_backed_up_is_refused(people, vm):
    RepositoryFactory()
    vm.disks.all().delete()
    DiskFactory(vm=vm, storage_type="lun")
    DiskFactory(vm=vm, shareable=True)
    with pytest.raises(NothingToBackUp, match="web-01"):
        services.start_vm_backup(actor=people.bob, vm=vm)
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    "state", [JobState.PENDING, JobState.RUNNING, JobState.WAITING, JobState.INTERRUPTED]
)
def test_one_unfinished_backup_of_a_machine_is_enough(people, vm, state):
    RepositoryFactory()
    JobFactory(vm=vm, state=state)
    with pytest.raises(BackupAlreadyRunning):
        services.start_vm_backup(actor=people.bob, vm=vm)
    assert Job.objects.count() == 1


@pytest.mark.parametrize(
    ("kind", "state"), [("vm_backup", JobState.FAILED), ("vm_restore", JobState.RUNNING)]
)
def test_ended_backups_and_other_jobs_do_not_stand_in_the_way(people, vm, kind, state):
    RepositoryFactory()
    JobFactory(vm=vm, kind=kind, state=state)
    assert services.start_vm_backup(actor=people.alice, vm=vm).state == JobState.PENDING


def test_verifying_needs_the_operator_role(people, point):
    with pytest.raises(NotAllowed):
        services.verify_restore_point(actor=people.carol, point=point)
    job = services.verify_restore_point(actor=people.bob, point=point)
    assert job.params == {"point": str(point.uuid)}
    assert {item["mode"] for item in job.lock_keys} == {"shared"}
