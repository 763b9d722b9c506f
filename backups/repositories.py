# SPDX-License-Identifier: GPL-3.0-or-later
"""Repositories as such: add one, name it, choose the default. Only platform admins may."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from django.db import transaction

from backups import access
from backups.models import Repository
from portal.audit import services as audit
from portal.jobs import locks
from portal.jobs import services as jobs
from portal.jobs.models import Job

ADD_TASK = "backups.add_repository"
ADD_LOCK = "repositories:add"


def order_repository(
    *,
    actor: Any,
    name: str,
    path: PurePosixPath,
    trash_days: int,
    existing: bool = False,
    default: bool = False,
    via: str = Job.Via.PAGE,
) -> Job:
    """Have a worker make a repository in an empty folder, or (`existing`) take up the one that lies there.

    A worker, since it is the workers that must reach the folder, and a share that hangs must not hang a page.
    Raises NotAllowed.
    """
    access.require_platform_admin(actor, "add repositories")
    return jobs.order_job(
        "repository.add",
        actor=actor,
        via=via,
        noted={"name": name, "path": str(path)},
        kind="repository_add",
        task=ADD_TASK,
        title=f"Add repository {name}",
        locks=[locks.exclusive(ADD_LOCK)],
        params={
            "name": name,
            "path": str(path),
            "trash_days": trash_days,
            "existing": existing,
            "default": default,
        },
        subject_label=name,
    )


def change_repository(
    *, actor: Any, repository: Repository, name: str, trash_days: int, via: str = Job.Via.PAGE
) -> None:
    """Another name or grace period, also for what is in the trash already. Raises NotAllowed."""
    access.require_platform_admin(actor, "change repositories")
    before = {"name": repository.name, "trash_days": repository.trash_days}
    with transaction.atomic():
        Repository.objects.filter(pk=repository.pk).update(name=name, trash_days=trash_days)
        after = {"name": name, "trash_days": trash_days}
        audit.record(
            "repository.change", actor=actor, subject=repository, via=via, before=before, after=after
        )
    repository.refresh_from_db()


def make_default(*, actor: Any, repository: Repository, via: str = Job.Via.PAGE) -> None:
    """Backups go there from now on, unless another one is chosen. Raises NotAllowed."""
    access.require_platform_admin(actor, "choose the default repository")
    with transaction.atomic():
        before = list(Repository.objects.filter(is_default=True).values_list("name", flat=True))
        Repository.objects.exclude(pk=repository.pk).update(is_default=False)
        Repository.objects.filter(pk=repository.pk).update(is_default=True)
        audit.record(
            "repository.default",
            actor=actor,
            subject=repository,
            via=via,
            before=before,
            after=[repository.name],
        )
    repository.refresh_from_db()
