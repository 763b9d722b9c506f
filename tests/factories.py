# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows for tests. Real data comes from the lab; these are for pages and rules."""

import datetime as dt
import uuid

import factory
from django.conf import settings
from django.utils import timezone

from backups.models import Repository, RepositoryMeasurement, RestorePoint, RestorePointDisk
from portal import secrets
from portal.accounts.models import Membership, Team, User
from portal.accounts.roles import Role
from portal.api.models import ApiToken
from portal.environments.models import Disk, Environment, VirtualMachine, VmPerson
from portal.events.kinds import EventKind
from portal.events.models import Delivery, Event, Webhook
from portal.jobs.models import Job


class UserFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = User
        skip_postgeneration_save = True

    username = factory.Sequence(lambda number: f"person{number}")
    password = factory.django.Password("correct horse")


class TeamFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Team

    name = factory.Sequence(lambda number: f"Team {number}")


class MembershipFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Membership

    team = factory.SubFactory(TeamFactory)
    user = factory.SubFactory(UserFactory)
    role = Role.VIEWER


class EnvironmentFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Environment

    name = factory.Sequence(lambda number: f"Manager {number}")
    api_url = "https://manager.example.com/ovirt-engine/api"
    username = "admin@internal"
    product = "oVirt Engine"
    version = "4.5.7"
    refreshed_at = factory.LazyFunction(timezone.now)
    reached_at = factory.LazyFunction(timezone.now)
    clusters = [
        {"cluster_id": "c1", "name": "Default", "version": "4.6", "data_center_id": "d1"},
    ]
    storage_domains = [
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
    ]


class VmFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = VirtualMachine

    environment = factory.SubFactory(EnvironmentFactory)
    manager_id = factory.LazyFunction(uuid.uuid4)
    name = factory.Sequence(lambda number: f"vm-{number:03}")
    status = "up"
    cluster_name = "Default"
    compatibility = "4.6"
    memory_bytes = 2 << 30
    cpu_cores = 2
    seen_at = factory.LazyFunction(timezone.now)


class ApiTokenFactory(factory.django.DjangoModelFactory):
    """Its text is known to nobody; for one that is used see tests/api/support.py."""

    class Meta:
        model = ApiToken

    user = factory.SubFactory(UserFactory)
    name = factory.Sequence(lambda number: f"Token {number}")
    prefix = factory.Sequence(lambda number: f"{number:012x}")
    secret_sha256 = "0" * 64
    scopes = ["read"]
    created_by_name = "root"


class DiskFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Disk

    vm = factory.SubFactory(VmFactory)
    manager_id = factory.LazyFunction(uuid.uuid4)
    alias = factory.Sequence(lambda number: f"disk-{number}")
    size_bytes = 10 << 30
    actual_bytes = 2 << 30
    format = "cow"
    storage_type = "image"
    bootable = True


class PersonFactory(factory.django.DjangoModelFactory):
    """An owner by the Manager's word."""

    class Meta:
        model = VmPerson

    vm = factory.SubFactory(VmFactory)
    kind = VmPerson.Kind.USER
    principal_id = factory.LazyFunction(uuid.uuid4)
    principal = factory.Sequence(lambda number: f"owner{number}@corp")
    display_name = factory.Sequence(lambda number: f"Owner {number}")
    role_id = "def00006-0000-0000-0000-def000000006"
    role_name = "UserVmManager"


class RepositoryFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Repository

    uuid = factory.LazyFunction(uuid.uuid4)
    name = factory.Sequence(lambda number: f"Repository {number:04}")
    path = factory.Sequence(lambda number: f"/srv/backups/{number}")


class MeasurementFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = RepositoryMeasurement

    repository = factory.SubFactory(RepositoryFactory)
    at = factory.LazyFunction(timezone.now)
    bytes_used = 100 << 30
    bytes_free = 900 << 30
    bytes_total = 1 << 40
    points = 10
    chunks = 100_000


class PointFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = RestorePoint

    repository = factory.SubFactory(RepositoryFactory)
    vm = factory.SubFactory(VmFactory)
    taken_at = factory.LazyFunction(lambda: timezone.now() - dt.timedelta(hours=2))
    method = "incremental"
    mode = "full"
    reason = "Full, because this is the first backup of this machine in this repository."
    vm_name = factory.LazyAttribute(lambda point: point.vm.name)
    vm_was_up = True
    consistency = "crash"
    checkpoint_id = factory.LazyFunction(uuid.uuid4)
    size_bytes = 10 << 30
    bytes_read = 2 << 30
    bytes_stored = 1 << 30
    duration_seconds = 42.0
    manifest_sha256 = "0" * 64


class PointDiskFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = RestorePointDisk

    point = factory.SubFactory(PointFactory)
    manager_id = factory.LazyFunction(uuid.uuid4)
    alias = "system"
    size_bytes = 10 << 30
    format = "cow"
    bootable = True
    mode = "full"
    reason = "Full, because this is the first backup of this machine in this repository."
    bytes_read = 2 << 30
    bytes_stored = 1 << 30
    chunk_size = 1 << 20
    index_file = factory.LazyAttribute(lambda disk: f"{disk.manager_id}.caibx")
    digest = "0" * 64


class JobFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Job

    kind = "vm_backup"
    task = "backups.vm_backup"
    vm = factory.SubFactory(VmFactory)
    environment = factory.LazyAttribute(lambda job: job.vm.environment if job.vm else None)
    vm_name = factory.LazyAttribute(lambda job: job.vm.name if job.vm else "")
    title = factory.LazyAttribute(lambda job: f"Back up {job.vm.name}" if job.vm else "A job")
    requested_by_name = "alice"


class WebhookFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Webhook

    name = factory.Sequence(lambda number: f"Webhook {number}")
    url = "https://hooks.example.com/portal"
    kinds = factory.LazyFunction(lambda: list(EventKind.values))
    created_by_name = "alice"
    secret_token = factory.LazyFunction(
        lambda: secrets.encrypt("whsec_of_the_factory", settings.CREDENTIAL_KEYS)
    )


class EventFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Event

    kind = EventKind.JOB_SUCCEEDED
    sequence = factory.Sequence(lambda number: number + 1)


class DeliveryFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Delivery

    webhook = factory.SubFactory(WebhookFactory)
    event = factory.SubFactory(EventFactory)
    job_uuid = factory.LazyAttribute(lambda delivery: delivery.event.job_uuid if delivery.event else None)
    give_up_at = factory.LazyFunction(lambda: timezone.now() + dt.timedelta(days=1))
