# SPDX-License-Identifier: GPL-3.0-or-later
"""Managers and what they last told us about their virtual machines."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.urls import reverse

from portal import secrets
from portal.accounts.roles import Capability, Role, roles_with
from portal.ovirt import inventory, people
from portal.ovirt.connection import ManagerAddress

if TYPE_CHECKING:
    from portal.accounts.models import User


class EnvironmentQuerySet(models.QuerySet["Environment"]):
    def visible_to(self, user: User) -> EnvironmentQuerySet:
        """Those with a machine that the person may see; platform admins see all."""
        if user.reaches_every_machine:
            return self
        return self.filter(pk__in=VirtualMachine.objects.visible_to(user).values("environment_id"))


def owners_by_default() -> list[str]:
    """The predefined role of the engine that lets a person do anything with one machine."""
    return ["UserVmManager"]


class Environment(models.Model):
    """One Manager (ovirt-engine) with its API, hosts and storage."""

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    name = models.CharField(max_length=120, unique=True)
    api_url = models.URLField(max_length=300, help_text="Ends in /ovirt-engine/api")
    username = models.CharField(max_length=150, help_text="With its profile, like admin@internal")
    password_token = models.TextField(editable=False)
    ca_pem = models.TextField(blank=True, help_text="The Manager's CA certificate (PEM)")
    product = models.CharField(max_length=120, blank=True)
    version = models.CharField(max_length=60, blank=True)
    reached_at = models.DateTimeField(null=True, blank=True)
    refreshed_at = models.DateTimeField(null=True, blank=True)
    problem = models.TextField(blank=True)
    legacy_backups = models.BooleanField(
        "back up without snapshots",
        default=False,
        help_text="From compatibility level 4.7 on the Manager takes a snapshot for each backup and merges it "
        "afterwards; this asks for the way without one, which blocks the machine's operations meanwhile.",
    )
    owner_roles = models.JSONField(
        default=owners_by_default,
        help_text="Roles on the Manager, given on a machine itself, whose holders are its owners here.",
    )
    owners_get = models.CharField(
        max_length=20,
        choices=Role.choices,
        default=Role.OPERATOR,
        blank=True,
        help_text="The role that a machine's owners have on it in the portal; empty: none.",
    )
    ldap_directory = models.CharField(
        max_length=255,
        blank=True,
        help_text="The Manager's name of the directory that people sign in by here with LDAP; empty: none.",
    )
    oidc_directory = models.CharField(
        max_length=255,
        blank=True,
        help_text="The same for the company's OpenID Connect sign-in.",
    )
    people_read_at = models.DateTimeField(null=True, blank=True)
    people_problem = models.TextField(blank=True)
    clusters = models.JSONField(default=list)
    storage_domains = models.JSONField(default=list)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = EnvironmentQuerySet.as_manager()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def set_password(self, password: str) -> None:
        self.password_token = secrets.encrypt(password, settings.CREDENTIAL_KEYS)

    def address(self) -> ManagerAddress:
        """How to reach the Manager, with the decrypted password. Raises CredentialUnreadable."""
        return ManagerAddress(
            url=self.api_url,
            username=self.username,
            password=secrets.decrypt(self.password_token, settings.CREDENTIAL_KEYS),
            ca_pem=self.ca_pem,
            timeout_seconds=settings.MANAGER_TIMEOUT,
            cache_dir=settings.DATA_DIR / "ca",
        )


class VirtualMachineQuerySet(models.QuerySet["VirtualMachine"]):
    def visible_to(self, user: User) -> VirtualMachineQuerySet:
        """Any role on one of the VM's teams or on the VM itself; platform admins see all. A token narrows it."""
        if user.reaches_every_machine:
            return self
        if not user.is_active:
            return self.none()
        found = Q(**user.team_filter)
        if user.counts_beyond_teams:
            found |= Q(grants__user=user)
        return self.filter(found).distinct()

    def allowing(self, user: User, capability: Capability) -> VirtualMachineQuerySet:
        """Those on which `user` holds a role with `capability`, and whose token, if any, leaves it."""
        if not user.is_active or not user.keeps(capability):
            return self.none()
        if user.reaches_every_machine:
            return self
        roles = roles_with(capability)
        found = Q(**user.team_filter, teams__memberships__role__in=roles)
        if user.counts_beyond_teams:
            found |= Q(grants__user=user, grants__role__in=roles)
        return self.filter(found).distinct()

    def present(self) -> VirtualMachineQuerySet:
        return self.filter(gone_at=None)


class VirtualMachine(models.Model):
    """A VM as the Manager last described it. Its key is (environment, Manager's VM id)."""

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    environment = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="vms")
    manager_id = models.UUIDField()
    name = models.CharField(max_length=255)
    description = models.TextField(blank=True)
    status = models.CharField(max_length=30)
    cluster_name = models.CharField(max_length=255, blank=True)
    compatibility = models.CharField(max_length=10, blank=True)
    memory_bytes = models.BigIntegerField(default=0)
    cpu_cores = models.PositiveIntegerField(default=0)
    os_type = models.CharField(max_length=60, blank=True)
    tags = models.JSONField(default=list)
    teams: models.ManyToManyField[Any, Any] = models.ManyToManyField(
        "accounts.Team", through="TeamMachine", related_name="vms", blank=True
    )
    seen_at = models.DateTimeField()
    gone_at = models.DateTimeField(null=True, blank=True)

    objects = VirtualMachineQuerySet.as_manager()

    class Meta:
        ordering = ["name", "id"]
        constraints = [
            models.UniqueConstraint(fields=["environment", "manager_id"], name="vm_once_in_an_environment")
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("environments:vm", args=[self.uuid])

    @property
    def lock_key(self) -> str:
        return f"vm:{self.uuid}"

    @property
    def audited_vm(self) -> VirtualMachine:
        return self

    def audited_teams(self) -> list[UUID]:
        """Whose auditors read what is recorded about this machine."""
        return list(self.teams.values_list("uuid", flat=True))

    def allows(self, user: User, capability: Capability) -> bool:
        return VirtualMachine.objects.filter(pk=self.pk).allowing(user, capability).exists()


class TeamMachine(models.Model):
    """A VM of a team, and how it came to it: by hand, by the team's rules, or both.

    What rules bring they also take away; what was given by hand stays until it is taken by hand.
    """

    virtualmachine = models.ForeignKey(VirtualMachine, on_delete=models.CASCADE, related_name="team_links")
    team = models.ForeignKey("accounts.Team", on_delete=models.CASCADE, related_name="machine_links")
    by_hand = models.BooleanField(default=True)
    by_rule = models.BooleanField(default=False)

    class Meta:
        # The table that Django made for the relation before it could tell by whom.
        db_table = "environments_virtualmachine_teams"
        unique_together = [("virtualmachine", "team")]

    def __str__(self) -> str:
        return f"{self.virtualmachine} of {self.team}"


class TeamRule(models.Model):
    """Which VMs come to a team by themselves; see portal.environments.rules."""

    class Kind(models.TextChoices):
        TAG = "tag", "Tag"
        CLUSTER = "cluster", "Cluster"
        NAME = "name", "Name pattern"
        OWNER = "owner", "Owner on the Manager"

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    team = models.ForeignKey("accounts.Team", on_delete=models.CASCADE, related_name="rules")
    kind = models.CharField(max_length=20, choices=Kind.choices)
    value = models.CharField(max_length=255)
    # Only machines of this Manager; None: of all.
    environment = models.ForeignKey(
        Environment, null=True, blank=True, on_delete=models.CASCADE, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        where = f" on {self.environment.name}" if self.environment else ""
        return f"{self.get_kind_display().lower()} {self.value}{where}"


class VmGrant(models.Model):
    """A role on one VM, for somebody who is in none of its teams: given by hand, or because the Manager names the
    person its owner, and then taken away when it no longer does (people.py)."""

    class Source(models.TextChoices):
        HAND = "hand", "given by hand"
        MANAGER = "manager", "because the Manager names you its owner"

    vm = models.ForeignKey(VirtualMachine, on_delete=models.CASCADE, related_name="grants")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="vm_grants")
    role = models.CharField(max_length=20, choices=Role.choices, default=Role.OPERATOR)
    source = models.CharField(max_length=10, choices=Source.choices, default=Source.HAND)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["vm", "user", "source"], name="one_role_on_a_vm_by_source")
        ]

    def __str__(self) -> str:
        return f"{self.user} is {self.role} of {self.vm}"


class VmPerson(models.Model):
    """A role that a user or a group of the Manager was given on a VM itself, as the Manager last said.

    Of a VM that is gone from the Manager, what was known last."""

    class Kind(models.TextChoices):
        USER = people.USER, "user"
        GROUP = people.GROUP, "group"

    vm = models.ForeignKey(VirtualMachine, on_delete=models.CASCADE, related_name="people")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    principal_id = models.UUIDField()
    principal = models.CharField(max_length=255, help_text="login@directory, or a group's name@directory")
    display_name = models.CharField(max_length=255, blank=True)
    role_id = models.UUIDField()
    role_name = models.CharField(max_length=255)

    class Meta:
        ordering = ["vm_id", "kind", "principal", "role_name"]
        constraints = [
            models.UniqueConstraint(fields=["vm", "principal_id", "role_id"], name="once_a_role_on_a_vm")
        ]
        indexes = [models.Index(fields=["principal", "kind"], name="vm_person_principal")]

    def __str__(self) -> str:
        return f"{self.principal} has {self.role_name} on {self.vm}"

    @property
    def label(self) -> str:
        """`Oscar Olsen (oscar@internal-authz)`."""
        if not self.display_name or self.display_name == self.principal.partition("@")[0]:
            return self.principal
        return f"{self.display_name} ({self.principal})"


class ManagerIdentity(models.Model):
    """Who of the portal's people a user of a Manager is. Set by platform admins, never by the person."""

    environment = models.ForeignKey(Environment, on_delete=models.CASCADE, related_name="identities")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="manager_identities"
    )
    principal = models.CharField(max_length=255)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["principal"]
        constraints = [
            models.UniqueConstraint(fields=["environment", "principal"], name="one_person_a_principal")
        ]

    def __str__(self) -> str:
        return f"{self.principal} is {self.user}"


class Disk(models.Model):
    """A disk attached to a VM, as last seen."""

    vm = models.ForeignKey(VirtualMachine, on_delete=models.CASCADE, related_name="disks")
    manager_id = models.UUIDField()
    alias = models.CharField(max_length=255)
    size_bytes = models.BigIntegerField()
    actual_bytes = models.BigIntegerField(default=0)
    format = models.CharField(max_length=10)
    storage_type = models.CharField(max_length=30)
    content_type = models.CharField(max_length=40, blank=True)
    storage_domain_name = models.CharField(max_length=255, blank=True)
    interface = models.CharField(max_length=20, blank=True)
    bootable = models.BooleanField(default=False)
    active = models.BooleanField(default=True)
    shareable = models.BooleanField(default=False)
    incremental_enabled = models.BooleanField(default=False)

    class Meta:
        ordering = ["-bootable", "alias", "id"]
        constraints = [models.UniqueConstraint(fields=["vm", "manager_id"], name="disk_once_on_a_vm")]

    def __str__(self) -> str:
        return self.alias

    @property
    def excluded_because(self) -> str:
        """Why a backup leaves this disk out, or an empty string."""
        return inventory.excluded_because(
            storage_type=self.storage_type, shareable=self.shareable, active=self.active
        )
