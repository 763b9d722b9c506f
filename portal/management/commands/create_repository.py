# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from backups import services
from portal.errors import PortalError


class Command(BaseCommand):
    help = "Make an empty repository for restore points in an empty folder."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="how people call it")
        parser.add_argument("path", type=Path, help="an empty folder, on a mounted share for example")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            repository = services.create_repository(
                actor=None, name=options["name"], path=options["path"].resolve()
            )
        except PortalError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"Repository {repository.name} ({repository.uuid}) is ready in {repository.path}.")
