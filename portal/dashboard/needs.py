# SPDX-License-Identifier: GPL-3.0-or-later
"""What needs a person, each with a verb: rows of "Needs you". Reads nothing, decides nothing."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from django.urls import reverse

from backups.models import Repository
from backups.repository_presenters import State as RepositoryState
from portal import wording
from portal.dashboard.protection import Protection
from portal.environments.models import Environment, VirtualMachine
from portal.events import presenters as webhook_words
from portal.events.models import Webhook
from portal.jobs import presenters as job_words
from portal.jobs.models import Job


@dataclass(frozen=True)
class Need:
    """`verb_url` is a page; with `posts` it is where the button posts."""

    icon: str
    tone: str
    title: str
    text: str
    url: str
    verb: str
    verb_url: str
    posts: bool = False


def of_waiting_jobs(waiting: Sequence[Job]) -> list[Need]:
    return [
        _page_need(
            "waiting",
            "warn",
            f"{job_words.headline(job)} waits for you",
            job.waiting_for,
            job.waiting_url or job.get_absolute_url(),
            "Go on",
        )
        for job in waiting
    ]


def of_warnings(jobs: Sequence[Job]) -> list[Need]:
    """Ended jobs that left something or warned of something, until somebody has seen to it."""
    return [_of_warned_job(job) for job in jobs]


def _of_warned_job(job: Job) -> Need:
    more = len(job.warnings) - 1
    text = job.warnings[0] if job.warnings else ""
    if more > 0:
        text = f"{text} And {more} more."
    title = f"{job_words.headline(job)}, with {job_words.warned(job)}"
    return _page_need("warning", "warn", title, text, job.get_absolute_url(), "See to it")


def of_managers(troubled: Sequence[Environment]) -> list[Need]:
    return [
        _page_need(
            "failing",
            "bad",
            f"{environment.name} did not answer",
            environment.problem,
            reverse("environments:environment", args=[environment.uuid]),
            "Look",
        )
        for environment in troubled
    ]


def of_webhooks(given_up: Sequence[Webhook]) -> list[Need]:
    """Webhooks that events could not be delivered to."""
    return [
        _page_need(
            "network",
            "warn",
            f"{wording.isolated(webhook.name)} did not take its events",
            webhook_words.state(webhook).sentence,
            webhook.get_absolute_url(),
            "See to it",
        )
        for webhook in given_up
    ]


def of_repositories(troubled: Sequence[tuple[Repository, RepositoryState]]) -> list[Need]:
    return [_of_repository(repository, state) for repository, state in troubled]


def _of_repository(repository: Repository, state: RepositoryState) -> Need:
    name = wording.isolated(repository.name)
    title = {
        "unreachable": f"The repository {name} cannot be reached",
        "damaged": f"The repository {name} has damaged data",
        "uncollected": f"Garbage could not be collected in the repository {name}",
        "nearly_full": f"The repository {name} is nearly full",
    }[state.status]
    tone = "bad" if state.status in ("unreachable", "damaged") else "warn"
    return _page_need("disk", tone, title, state.problem, repository.get_absolute_url(), "Look")


def of_machines(
    pairs: Sequence[tuple[VirtualMachine, Protection]],
    may_back_up: Collection[int],
    backing_up: Mapping[int, uuid.UUID],
) -> list[Need]:
    """`may_back_up`: primary keys of machines that this person may back up; `backing_up`: unfinished backup by key."""
    return [_of_machine(vm, state, vm.pk in may_back_up, backing_up.get(vm.pk)) for vm, state in pairs]


def _of_machine(vm: VirtualMachine, state: Protection, may_back_up: bool, running: uuid.UUID | None) -> Need:
    url, name = vm.get_absolute_url(), wording.isolated(vm.name)
    if state.failed_job:
        why = reverse("jobs:job", args=[state.failed_job])
        return Need("failing", "bad", f"The last backup of {name} failed", state.why, url, "See why", why)
    tone = "bad" if state.status == "failing" else "warn"
    if state.status == "failing":
        title, text = f"{name} has a damaged restore point", state.sentence
    elif state.status == "stale":
        title, text = f"{name} has no recent restore point", state.sentence
    else:
        title, text = (
            f"{name} has no restore point",
            "If its disks were lost now, it could not be brought back.",
        )
    if running:
        watch = reverse("jobs:job", args=[running])
        return Need(state.status, tone, title, "It is being backed up now.", url, "Watch", watch)
    if may_back_up:
        post = reverse("backups:back_up", args=[vm.uuid])
        return Need(state.status, tone, title, text, url, "Back up now", post, posts=True)
    return _page_need(state.status, tone, title, text, url, "Look")


def _page_need(icon: str, tone: str, title: str, text: str, url: str, verb: str) -> Need:
    """One whose verb leads where its title leads."""
    return Need(icon, tone, title, text, url, verb, url)
