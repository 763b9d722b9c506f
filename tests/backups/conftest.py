# SPDX-License-Identifier: GPL-3.0-or-later
import pytest

from backups import services
from backups.models import Repository, RestorePoint
from portal.environments.models import VirtualMachine
from tests.backups.support import publish
from tests.factories import DiskFactory, VmFactory


@pytest.fixture
def vm(people) -> VirtualMachine:
    """A machine of the team, with one disk that can be backed up."""
    vm = VmFactory(name="web-01")
    vm.teams.add(people.team)
    DiskFactory(vm=vm)
    return vm


@pytest.fixture
def point(repository: Repository, vm: VirtualMachine) -> RestorePoint:
    """Published in a real repository."""
    return services.record_point(repository, vm, publish(repository, vm), None)
