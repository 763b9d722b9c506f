# SPDX-License-Identifier: GPL-3.0-or-later
"""Add a repository as a job: make one in an empty folder, or take up the one that lies there."""

from __future__ import annotations

from pathlib import Path

from backups import importing, repositories, upkeep
from backups.errors import RepositoryKnown
from backups.models import Repository
from backups.store.repository import Repository as Store
from portal.jobs import runner
from portal.jobs.context import JobContext

# So many restore points that could not be taken over are named; the log has all of them.
NAMED = 5


def run(context: JobContext) -> None:
    """A later attempt adopts what an earlier one made. Raises RepositoryKnown, ImportRefused, StoreError."""
    if context.giving_up:
        raise runner.give_up(context)
    params = context.params
    if Repository.objects.filter(name=params["name"]).exclude(path=params["path"]).exists():
        raise RepositoryKnown(
            f"There is a repository {params['name']} already; nothing was made.", hint="Choose another name."
        )
    repository = _take_up(context) if params["existing"] else _make_new(context)
    Repository.objects.filter(pk=repository.pk).update(trash_days=params["trash_days"])
    if params["default"]:
        repositories.make_default(actor=context.job.requested_by, repository=repository, via=context.job.via)
    context.write(
        subject_url=repository.get_absolute_url(),
        result={**context.job.result, "repository": str(repository.uuid)},
        params={**params, "repository": str(repository.uuid)},
    )


def _take_up(context: JobContext) -> Repository:
    """Rows of all that lies there; what cannot be trusted is left out, and said."""
    params = context.params
    with context.step("import", f"Taking up the repository in {params['path']}") as step:
        report = importing.import_repository(
            path=Path(params["path"]),
            name=params["name"],
            actor=context.job.requested_by,
            via=context.job.via,
        )
        points, machines = report.points, len(report.machines)
        step.detail = (
            f"{points} restore points of {machines} machines, {report.in_trash} of them in the trash"
        )
    for place, why in report.left_out.items():
        context.tell(f"Left out: {place}: {why}", level="warning")
    _warn(context, report)
    context.write(result={"points": points, "machines": machines, "left_out": len(report.left_out)})
    return report.repository


def _warn(context: JobContext, report: importing.ImportReport) -> None:
    left_out = list(report.left_out.items())
    for place, why in left_out[:NAMED]:
        context.warn(f"{place} was left out: {why}")
    if len(left_out) > NAMED:
        context.warn(f"{len(left_out) - NAMED} more were left out; the log names them.")
    for name in sorted(report.placeholders):
        context.warn(
            f"The Manager {name} is known only from this repository. To restore its machines, add the Manager, "
            "then attach the restore points to it: manage.py import_repository --environment."
        )


def _make_new(context: JobContext) -> Repository:
    with context.step("folder", f"Making a repository in {context.params['path']}") as step:
        store = _make(context, Path(context.params["path"]))
        step.detail = f"Repository {store.uuid}"
    with context.step("row", "Noting it"):
        repository = _note(context, store)
    with context.step("measure", "Looking how full it is"):
        upkeep.measure(repository)
    return repository


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
    return Repository.objects.create(
        uuid=store.uuid,
        name=params["name"],
        path=str(store.path),
        is_default=not Repository.objects.exists(),
    )
