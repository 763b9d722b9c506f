# SPDX-License-Identifier: GPL-3.0-or-later
"""Add a repository as a job: make one in an empty folder, note it, and look how full it is."""

from __future__ import annotations

from pathlib import Path

from django.db import transaction

from backups import repositories, upkeep
from backups.errors import RepositoryKnown
from backups.models import Repository
from backups.store.repository import Repository as Store
from portal.jobs import runner
from portal.jobs.context import JobContext


def run(context: JobContext) -> None:
    """A later attempt adopts what an earlier one made. Raises RepositoryKnown, StoreError."""
    if context.giving_up:
        raise runner.give_up(context)
    params = context.params
    if Repository.objects.filter(name=params["name"]).exclude(path=params["path"]).exists():
        raise RepositoryKnown(
            f"There is a repository {params['name']} already; nothing was made.", hint="Choose another name."
        )
    with context.step("folder", f"Making a repository in {params['path']}") as step:
        store = _make(context, Path(params["path"]))
        step.detail = f"Repository {store.uuid}"
    with context.step("row", "Noting it"):
        repository = _note(context, store)
    context.write(subject_url=repository.get_absolute_url(), result={"repository": str(repository.uuid)})
    with context.step("measure", "Looking how full it is"):
        upkeep.measure(repository)


def _make(context: JobContext, path: Path) -> Store:
    """What an earlier attempt made is adopted: it was written down that the folder was empty then."""
    if context.memory.get("was_empty") and (path / "repository.json").exists():
        return Store.open(path, expected_uuid=None)
    if path.is_dir() and not any(path.iterdir()):
        context.remember(was_empty=True)
    return Store.create(path, owner=context.job.requested_by_name)


def _note(context: JobContext, store: Store) -> Repository:
    params = context.params
    known = Repository.objects.filter(path=str(store.path)).first()
    if known is not None and known.uuid != store.uuid:
        raise RepositoryKnown(
            f"The folder is known as repository {known.name} already; nothing was noted.",
            hint="Choose another folder.",
        )
    if known is not None:
        return known
    with transaction.atomic():
        repository = Repository.objects.create(
            uuid=store.uuid,
            name=params["name"],
            path=str(store.path),
            trash_days=params["trash_days"],
            is_default=not Repository.objects.exists(),
        )
    if params["default"]:
        repositories.make_default(actor=context.job.requested_by, repository=repository, via=context.job.via)
    return repository
