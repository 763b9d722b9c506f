# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine's page says what the next backup will be, disk by disk, why, and where it goes."""

import uuid

import pytest
from django.test import Client
from django.urls import reverse

from portal.jobs.models import Job
from tests.factories import DiskFactory, PointDiskFactory, PointFactory, RepositoryFactory, VmFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def vm(people):
    vm = VmFactory(name="shop")
    vm.teams.add(people.team)
    return vm


@pytest.fixture
def here(db):
    return RepositoryFactory(name="Here", is_default=True)


@pytest.fixture
def offsite(here):
    return RepositoryFactory(name="Offsite")


@pytest.fixture
def client(people) -> Client:
    client = Client()
    client.force_login(people.bob)
    return client


def page(client, vm, **params) -> str:
    return client.get(vm.get_absolute_url(), params).content.decode()


def test_the_first_is_full_and_says_why_and_where(client, vm, here):
    DiskFactory(vm=vm, alias="system")
    text = page(client, vm)
    assert "this is the first backup of this machine in this repository" in text
    assert "It goes into <bdi>Here</bdi>" in text
    assert "Repository of the next backup" not in text, "no choice where there is only one"


def test_each_disk_has_its_own_reason(client, vm, here):
    same, grown = DiskFactory(vm=vm, alias="system"), DiskFactory(vm=vm, alias="data", size_bytes=20 << 30)
    DiskFactory(vm=vm, alias="lun", storage_type="lun")
    point = PointFactory(vm=vm, repository=here)
    for disk in (same, grown):
        PointDiskFactory(point=point, manager_id=disk.manager_id, size_bytes=10 << 30)
    text = page(client, vm)
    assert "Incremental since the restore point of" in text
    assert "Full, because its size has changed." in text
    assert "Left out, because" in text
    assert "1 disk is left out, see below." in text
    assert f'href="{point.get_absolute_url()}">See that restore point' in text


def test_another_repository_has_another_answer_and_takes_the_backup(client, vm, here, offsite, rings):
    disk = DiskFactory(vm=vm)
    PointDiskFactory(point=PointFactory(vm=vm, repository=here), manager_id=disk.manager_id)
    assert "Incremental since" in page(client, vm)
    there = page(client, vm, repository=str(offsite.uuid))
    assert "this is the first backup of this machine in this repository" in there
    assert f'name="repository" value="{offsite.uuid}"' in there
    client.post(reverse("backups:back_up", args=[vm.uuid]), {"repository": str(offsite.uuid)})
    assert Job.objects.get(kind="vm_backup").params["repository"] == str(offsite.uuid)


def test_without_a_choice_the_default_takes_it(client, vm, offsite, here, rings):
    DiskFactory(vm=vm)
    client.post(reverse("backups:back_up", args=[vm.uuid]))
    assert Job.objects.get(kind="vm_backup").params["repository"] == str(here.uuid)


@pytest.mark.parametrize("given", ["nonsense", str(uuid.uuid4())], ids=["nonsense", "unknown"])
def test_a_repository_that_is_none_starts_nothing(client, vm, here, rings, given):
    DiskFactory(vm=vm)
    response = client.post(reverse("backups:back_up", args=[vm.uuid]), {"repository": given})
    assert response.status_code == 404
    assert not Job.objects.filter(kind="vm_backup").exists()
    assert "It goes into <bdi>Here</bdi>" in page(client, vm, repository=given)


def test_what_stands_in_the_way_is_said(client, vm, here):
    text = page(client, vm)
    assert "None can be made now. No disk of this machine can be backed up by the Manager." in text
    assert "It goes into" not in text
