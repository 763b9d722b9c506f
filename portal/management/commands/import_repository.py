# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from backups.importing import ImportReport, import_repository
from portal.environments.models import Environment
from portal.errors import PortalError


class Command(BaseCommand):
    help = (
        "Take over a repository that this portal does not know, from its files alone: machines, restore points, "
        "pins, holds, what was verified and what lies in the trash. Safe to repeat."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("path", type=Path, help="the repository's folder")
        parser.add_argument("--name", default="", help="how people call it")
        parser.add_argument(
            "--environment",
            action="append",
            default=[],
            metavar="UUID=NAME",
            help="restore points of environment UUID belong to the Manager called NAME here; may be repeated",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            report = import_repository(
                path=options["path"].resolve(),
                name=options["name"],
                environments=dict(_mapped(text) for text in options["environment"]),
            )
        except PortalError as error:
            raise CommandError(str(error)) from error
        for line in _lines(report):
            self.stdout.write(line)


def _mapped(text: str) -> tuple[str, Environment]:
    known, _, name = text.partition("=")
    environment = Environment.objects.filter(name=name).first()
    if environment is None:
        raise CommandError(f"There is no Manager called {name!r}. Write --environment UUID=NAME.")
    try:
        return str(uuid.UUID(known)), environment
    except ValueError as error:
        raise CommandError(
            f"{known!r} is not the uuid of an environment. Write --environment UUID=NAME."
        ) from error


def _lines(report: ImportReport) -> list[str]:
    """Names come from files and may hold anything: what a terminal would obey is shown instead."""
    lines = [
        f"Repository {report.repository.name}: {report.points} restore points of {len(report.machines)} machines, "
        f"{report.made} of them new here; {report.in_trash} in the trash, {report.pinned} pinned, "
        f"{report.held} held, {report.damaged} damaged."
    ]
    lines += [f"Manager: {name}" for name in sorted(report.environments - report.placeholders)]
    lines += [
        f"Manager, not known here, a placeholder was made: {name}" for name in sorted(report.placeholders)
    ]
    lines += [f"Left out: {place}: {why}" for place, why in sorted(report.left_out.items())]
    lines.append("Verify the repository before you rely on it.")
    return ["".join(sign if sign.isprintable() else "\ufffd" for sign in line) for line in lines]
