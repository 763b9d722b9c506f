# SPDX-License-Identifier: GPL-3.0-or-later
"""A small world to walk through: one team with one machine, everything that can be on it, and everybody.

It has a real repository with real restore points; the Manager's address leads nowhere. Only ever made in a
database that is thrown away (check_rights) or in a transaction that is rolled back.
"""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils import timezone

from backups import services as backups
from backups.models import Repository, RestorePoint
from backups.store import ChunkWriter
from portal import secrets
from portal.accounts.models import Membership, Team, User
from portal.accounts.roles import Role
from portal.api import tokens
from portal.api.models import ApiToken
from portal.api.scopes import Scope
from portal.audit import services as audit
from portal.environments import rules
from portal.environments.models import Disk, Environment, VirtualMachine, VmGrant
from portal.events.kinds import EventKind
from portal.events.models import Delivery, DeliveryState, Event, Webhook
from portal.jobs.models import Job
from portal.jobs.states import JobState
from portal.rights.cells import Persona
from restores.models import Approval, Restore
from restores.plans import plan_new_vm

_MIB = 1 << 20
# The number of a session or passkey that nobody has: one's own are found by nobody else.
_NONE = 10**9
_TEAM_ROLES: dict[Persona, Role] = {
    Persona.VIEWER: Role.VIEWER,
    Persona.OPERATOR: Role.OPERATOR,
    Persona.AUDITOR: Role.AUDITOR,
    Persona.ADMIN: Role.ADMIN,
}


@dataclass
class World:
    """`people` and their API `tokens` by persona (the stranger has neither); `ids` are the arguments of addresses by
    object name, `words` what stands for a `{name}` in the data of a request."""

    people: dict[Persona, User]
    tokens: dict[Persona, str]
    ids: dict[str, list[Any]] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)

    def filled(self, data: dict[str, Any]) -> dict[str, Any]:
        return {
            key: value.format(**self.words) if isinstance(value, str) else value
            for key, value in data.items()
        }


def build(folder: Path) -> World:
    """Make everything, in the database and (the repository) in an empty folder."""
    team, people = _people()
    vm = _machine(team)
    VmGrant.objects.create(vm=vm, user=people[Persona.OWNER], role=Role.OPERATOR)
    repository = backups.create_repository(actor=None, name="Walk", path=folder / "walk")
    world = World(people=people, tokens={persona: _token(person) for persona, person in people.items()})
    points = {name: _point(repository, vm) for name in ("doomed", "trashed", "point")}
    backups.delete_restore_point(
        actor=people[Persona.PLATFORM], point=points["trashed"], reason="For the walk", via="command"
    )
    webhook, delivery = _webhook(team)
    job = _job(vm, JobState.PENDING)
    failed = _job(vm, JobState.FAILED, kind="vm_backup", task="backups.vm_backup")
    entry = audit.record("backup.start", actor=people[Persona.OPERATOR], subject=vm)
    service, service_token = _service(people[Persona.PLATFORM])
    restore = _restore(vm, points["point"])
    world.ids = {
        "": [],
        "vm": [vm.uuid],
        "vm_latest": [vm.uuid, "latest"],
        "environment": [vm.environment.uuid],
        "repository": [repository.uuid],
        **{name: [point.uuid] for name, point in points.items()},
        "job": [job.uuid],
        "failed": [failed.uuid],
        "restore": [restore.uuid],
        "waiting": [_waiting(team, vm, points["point"]).uuid],
        "webhook": [webhook.uuid],
        "team": [team.uuid],
        "entry": [entry.uuid],
        "service": [service.uuid],
        "service_token": [service_token.uuid],
        "provider": ["company"],
        "session": [_NONE],
        "group_rule": [_NONE],
        "passkey": [_NONE],
        "delivery": [webhook.uuid, delivery.uuid],
    }
    viewer, owner = people[Persona.VIEWER], people[Persona.OWNER]
    world.words = {
        "vm": str(vm.uuid),
        "environment": str(vm.environment.uuid),
        "viewer": viewer.username,
        "viewer_uuid": str(viewer.uuid),
        "owner_uuid": str(owner.uuid),
        "no_rules": rules.preview(team, []).hash,
        "point": str(points["point"].uuid),
        "plan_hash": plan_new_vm(points["point"], name="shop-restored").hash,
    }
    return world


def _people() -> tuple[Team, dict[Persona, User]]:
    team, other = Team.objects.create(name="Walked team"), Team.objects.create(name="Another team")
    people: dict[Persona, User] = {
        persona: _person(persona) for persona in Persona if persona != Persona.STRANGER
    }
    for persona, role in _TEAM_ROLES.items():
        Membership.objects.create(team=team, user=people[persona], role=role)
    Membership.objects.create(team=other, user=people[Persona.OUTSIDER], role=Role.ADMIN)
    return team, people


def _person(persona: Persona) -> User:
    person = User(username=f"walk-{persona}", is_superuser=persona == Persona.PLATFORM)
    # A password that nothing matches: without any, pages that ask for it once more would not.
    person.password = "no hash at all"  # noqa: S105
    person.save()
    return person


def _token(person: User) -> str:
    return tokens.create_token(actor=person, owner=person, name="walk", scopes=Scope.values)[1]


def _service(admin: User) -> tuple[User, ApiToken]:
    service = User.objects.create(username="walk-service", is_service=True)
    token, _ = tokens.create_token(actor=admin, owner=service, name="walk", scopes=[Scope.READ])
    return service, token


def _machine(team: Team) -> VirtualMachine:
    environment = Environment.objects.create(
        name="Walked Manager",
        api_url="https://127.0.0.1:9/ovirt-engine/api",
        username="admin@internal",
        password_token=secrets.encrypt("nothing", settings.CREDENTIAL_KEYS),
        clusters=[{"cluster_id": "c1", "name": "Default", "version": "4.6", "data_center_id": "d1"}],
        storage_domains=[
            {
                "domain_id": "s1",
                "name": "data-1",
                "kind": "nfs",
                "status": "active",
                "data_center_id": "d1",
                "available_bytes": 1 << 40,
                "used_bytes": 0,
                "is_backup": False,
            }
        ],
    )
    vm = VirtualMachine.objects.create(
        environment=environment,
        manager_id=uuid.uuid4(),
        name="shop",
        status="up",
        cluster_name="Default",
        compatibility="4.6",
        seen_at=timezone.now(),
    )
    vm.teams.add(team)
    Disk.objects.create(
        vm=vm,
        manager_id=uuid.uuid4(),
        alias="system",
        size_bytes=_MIB,
        format="cow",
        storage_type="image",
        bootable=True,
    )
    return vm


def _point(repository: Repository, vm: VirtualMachine) -> RestorePoint:
    """A published point of one small disk, in the repository's own format."""
    store, disk = repository.open(), vm.disks.get()
    staged = store.stage_point(vm.environment.uuid, vm.manager_id, uuid.uuid4())
    with ChunkWriter(store.chunks) as writer:
        index = staged.disk_index(str(disk.manager_id), disk.size_bytes, _MIB)
        for number in index.missing():
            writer.add(index, number, memoryview(bytes(_MIB)))
    staged.write_text("vm.ovf", b'<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1/"/>')
    stored = staged.publish(_manifest(vm, disk), still_owner=lambda: True)
    return backups.record_point(repository, vm, stored, None)


def _manifest(vm: VirtualMachine, disk: Disk) -> dict[str, Any]:
    """As a full backup writes it (backups.methods.manifest)."""
    counts = {"bytes_read": disk.size_bytes, "bytes_stored": disk.size_bytes, "dirty_bytes": None}
    how = {"mode": "full", "reason": "Full, because this is the first backup."}
    return {
        "kind": "restore-point",
        "environment_name": vm.environment.name,
        "machine": {"id": str(vm.manager_id), "name": vm.name, "status": "up", "cluster_id": "c1"},
        "taken_at": timezone.now().isoformat(),
        "method": "incremental",
        "checkpoint_id": str(uuid.uuid4()),
        "from_checkpoint_id": None,
        "consistency": {"level": "crash", "evidence": ""},
        "excluded_disks": [],
        "nics": [],
        "duration_seconds": 1.0,
        **how,
        **counts,
        "disks": [
            {
                "disk_id": str(disk.manager_id),
                "alias": disk.alias,
                "size_bytes": disk.size_bytes,
                "actual_bytes": disk.size_bytes,
                "format": disk.format,
                "sparse": True,
                "storage_type": disk.storage_type,
                "content_type": "data",
                "storage_domain_id": "s1",
                "interface": "virtio_scsi",
                "bootable": True,
                "active": True,
                "shareable": False,
                "read_only": False,
                "incremental_enabled": True,
                "wipe_after_delete": False,
                "chunks_new": 1,
                **how,
                **counts,
            }
        ],
    }


def _job(vm: VirtualMachine, state: JobState, **more: Any) -> Job:
    """A verification, which does not stand in the way of a backup."""
    return Job.objects.create(
        kind=more.pop("kind", "point_verify"),
        task=more.pop("task", "backups.verify_point"),
        title=f"Verify {vm.name}",
        vm=vm,
        environment=vm.environment,
        state=state,
        finished_at=None if state in (JobState.PENDING, JobState.WAITING) else timezone.now(),
        requested_by_name="portal",
        **more,
    )


def _waiting(team: Team, vm: VirtualMachine, point: RestorePoint) -> Restore:
    """A restore that waits for the consent of an admin of the team, asked for by nobody of the walk."""
    plan = plan_new_vm(point, name="shop-waiting")
    restore = Restore.objects.create(
        job=_job(vm, JobState.WAITING, kind="vm_restore", task="restores.new_vm"),
        point=point,
        method="new_vm",
        target_name=plan.name,
        plan=plan.as_json(),
        plan_hash=plan.hash,
    )
    expires_at = timezone.now() + dt.timedelta(days=1)
    approval = Approval.objects.create(
        restore=restore, because="The team asks for it.", expires_at=expires_at
    )
    approval.teams.add(team)
    return restore


def _restore(vm: VirtualMachine, point: RestorePoint) -> Restore:
    job = _job(vm, JobState.SUCCEEDED, kind="vm_restore")
    return Restore.objects.create(
        job=job, point=point, method="new_vm", target_name="earlier", plan_hash="0" * 64
    )


def _webhook(team: Team) -> tuple[Webhook, Delivery]:
    webhook = Webhook.objects.create(
        name="Walked webhook",
        team=team,
        url="https://hooks.example.com/walk",
        kinds=list(EventKind.values),
        created_by_name="portal",
        secret_token=secrets.encrypt("nothing", settings.CREDENTIAL_KEYS),
    )
    event = Event.objects.create(kind=EventKind.JOB_SUCCEEDED, sequence=1)
    delivery = Delivery.objects.create(
        webhook=webhook, event=event, state=DeliveryState.FAILED, give_up_at=timezone.now()
    )
    return webhook, delivery
