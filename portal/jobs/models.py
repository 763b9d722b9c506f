# SPDX-License-Identifier: GPL-3.0-or-later
"""Anything longer than a page. The row is the truth; the broker only rings the bell (ADR 0001)."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.urls import reverse

from portal.accounts.roles import Capability
from portal.environments.models import VirtualMachine
from portal.jobs.states import ACTIVE, FINISHED, JobState, StepState

if TYPE_CHECKING:
    from portal.accounts.models import User


# The kinds that the history of machines shows; its indexes hold only these.
HISTORY_KINDS = ("vm_backup", "vm_restore")
_IN_HISTORY = Q(kind__in=HISTORY_KINDS)


def _history_index(*columns: str) -> models.Index:
    """For one filter of the history, in the order of its pages."""
    name = f"history_by_{'_'.join(columns) or 'time'}"
    return models.Index(fields=[*columns, "-created_at", "-id"], name=name, condition=_IN_HISTORY)


class JobQuerySet(models.QuerySet["Job"]):
    def visible_to(self, user: User) -> JobQuerySet:
        """Jobs on VMs that the person may see, and those they asked for themselves."""
        if user.reaches_every_machine:
            return self
        if not user.is_active:
            return self.none()
        found = Q(vm__in=VirtualMachine.objects.visible_to(user))
        if user.counts_beyond_teams:
            found |= Q(requested_by=user)
        return self.filter(found)

    def active(self) -> JobQuerySet:
        return self.filter(state__in=ACTIVE)

    def finished(self) -> JobQuerySet:
        return self.filter(state__in=FINISHED)

    def in_history(self) -> JobQuerySet:
        """Backups and restores of machines."""
        return self.filter(_IN_HISTORY)

    def with_open_warnings(self) -> JobQuerySet:
        """Ended, with warnings that nobody has seen to yet."""
        return self.finished().filter(warnings_open=True)


class Job(models.Model):
    """One piece of long work: what it is, who asked, where it stands, how it ended.

    `task` is the Celery task that runs it, `params` what was asked (JSON), `resume_state` what outside
    things exist because of it (ids on the Manager, …) so that the next attempt adopts or cleans them.
    `vm_name` is the machine's name when it was asked for; `method` (of the backup or the restore) and `mode` (of the
    restore point that was made) are there to be looked for, as far as they are known.
    `warnings` are sentences; they are open until somebody says that they were seen to.
    Bytes are of allocated or dirty data, never virtual size.
    """

    class Via(models.TextChoices):
        PAGE = "page", "page"
        API = "api", "API"
        SCHEDULE = "schedule", "schedule"
        COMMAND = "command", "command line"

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    kind = models.CharField(max_length=40)
    task = models.CharField(max_length=100)
    title = models.CharField(max_length=300)
    state = models.CharField(max_length=20, choices=JobState.choices, default=JobState.PENDING, db_index=True)
    waiting_for = models.CharField(max_length=300, blank=True)
    # Where a person goes on with a waiting job, if not on the job's own page.
    waiting_url = models.CharField(max_length=300, blank=True)
    environment = models.ForeignKey(
        "environments.Environment", null=True, blank=True, on_delete=models.PROTECT, related_name="jobs"
    )
    vm = models.ForeignKey(
        "environments.VirtualMachine", null=True, blank=True, on_delete=models.PROTECT, related_name="jobs"
    )
    vm_name = models.CharField(max_length=255, blank=True)
    method = models.CharField(max_length=30, blank=True)
    mode = models.CharField(max_length=20, blank=True)
    subject_label = models.CharField(max_length=255, blank=True)
    subject_url = models.CharField(max_length=300, blank=True)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="jobs"
    )
    requested_by_name = models.CharField(max_length=150, blank=True)
    requested_for = models.CharField(max_length=150, blank=True)
    via = models.CharField(max_length=20, choices=Via.choices, default=Via.PAGE)
    capability = models.CharField(max_length=30, choices=Capability.choices, default=Capability.BACK_UP)
    reason = models.TextField(blank=True)
    ticket = models.CharField(max_length=100, blank=True, db_index=True)
    parent = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.SET_NULL, related_name="children"
    )
    retry_of = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.SET_NULL, related_name="retries"
    )

    params = models.JSONField(default=dict)
    lock_keys = models.JSONField(default=list)
    resume_state = models.JSONField(default=dict)
    result = models.JSONField(default=dict)
    warnings = models.JSONField(default=list)
    warnings_open = models.BooleanField(default=False)
    warnings_seen_at = models.DateTimeField(null=True, blank=True)
    warnings_seen_by = models.CharField(max_length=150, blank=True)

    phase = models.CharField(max_length=200, blank=True)
    bytes_done = models.BigIntegerField(default=0)
    bytes_total = models.BigIntegerField(null=True, blank=True)
    bytes_per_second = models.FloatField(null=True, blank=True)

    claim = models.UUIDField(null=True, blank=True, editable=False)
    attempts_made = models.PositiveIntegerField(default=0)
    times_stopped = models.PositiveIntegerField(default=0)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    progress_at = models.DateTimeField(null=True, blank=True)
    rung_at = models.DateTimeField(null=True, blank=True)
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    cancel_requested_by = models.CharField(max_length=150, blank=True)

    error_code = models.CharField(max_length=80, blank=True)
    error_message = models.TextField(blank=True)
    error_hint = models.TextField(blank=True)
    error_reference = models.CharField(max_length=40, blank=True)
    error_detail = models.TextField(blank=True)
    error_retryable = models.BooleanField(default=False)

    created_at = models.DateTimeField(auto_now_add=True, db_index=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = JobQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["vm", "kind", "-id"], name="jobs_of_vm"),
            models.Index(fields=["-id"], name="jobs_with_open_warnings", condition=Q(warnings_open=True)),
            _history_index(),
            _history_index("kind"),
            _history_index("vm"),
            _history_index("vm_name"),
            _history_index("environment"),
            _history_index("requested_by"),
            _history_index("requested_by_name"),
            _history_index("requested_for"),
            _history_index("ticket"),
            _history_index("state"),
            _history_index("method"),
            _history_index("mode"),
            models.Index(
                fields=["-created_at", "-id"],
                name="history_with_warnings",
                condition=_IN_HISTORY & Q(state=JobState.SUCCEEDED) & ~Q(warnings=[]),
            ),
        ]

    def __str__(self) -> str:
        return self.title

    def get_absolute_url(self) -> str:
        return reverse("jobs:job", args=[self.uuid])

    @property
    def audited_vm(self) -> VirtualMachine | None:
        return self.vm

    def may_be_steered_by(self, user: User) -> bool:
        """Cancel, repeat, see to its warnings: whoever could have started it. Without a VM: platform admins."""
        if self.vm is None:
            return user.is_platform_admin
        return self.vm.allows(user, Capability(self.capability))

    @property
    def tries(self) -> int:
        """Attempts that count: a worker that was stopped in good order has not failed at the job."""
        return self.attempts_made - self.times_stopped

    @property
    def is_active(self) -> bool:
        return self.state in ACTIVE

    @property
    def is_finished(self) -> bool:
        return self.state in FINISHED

    @property
    def seconds_left(self) -> float | None:
        """Time left, once a rate is known and only while bytes are moving."""
        if self.state != JobState.RUNNING or not self.bytes_total or not self.bytes_per_second:
            return None
        return max(0.0, (self.bytes_total - self.bytes_done) / self.bytes_per_second)


class JobStep(models.Model):
    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="steps")
    position = models.PositiveIntegerField()
    name = models.CharField(max_length=60)
    title = models.CharField(max_length=200)
    state = models.CharField(max_length=20, choices=StepState.choices, default=StepState.PENDING)
    detail = models.TextField(blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["position", "id"]
        constraints = [models.UniqueConstraint(fields=["job", "name"], name="step_once_in_a_job")]

    def __str__(self) -> str:
        return self.title


class JobAttempt(models.Model):
    """One worker's try at a job: who, when, and how it ended."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="attempts")
    number = models.PositiveIntegerField()
    claim = models.UUIDField()
    worker = models.CharField(max_length=200)
    started_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    ending = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["job", "number"], name="attempt_once_in_a_job")]

    def __str__(self) -> str:
        return f"attempt {self.number} of {self.job}"


class JobLogLine(models.Model):
    """Append-only; read by offset (its id)."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="log_lines")
    at = models.DateTimeField(auto_now_add=True)
    level = models.CharField(max_length=10, default="info")
    text = models.TextField()

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.text


class LockName(models.Model):
    """One row for each key ever locked: writing it serialises those who want that key, on any database."""

    key = models.CharField(max_length=120, unique=True)
    wanted = models.PositiveBigIntegerField(default=0)

    def __str__(self) -> str:
        return self.key


class JobLock(models.Model):
    class Mode(models.TextChoices):
        EXCLUSIVE = "exclusive", "exclusive"
        SHARED = "shared", "shared"

    key = models.CharField(max_length=120, db_index=True)
    slot = models.PositiveIntegerField()
    mode = models.CharField(max_length=10, choices=Mode.choices)
    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="locks")
    taken_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["key", "slot"], name="lock_slot_once")]

    def __str__(self) -> str:
        return f"{self.mode} lock on {self.key}"
