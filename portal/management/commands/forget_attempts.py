# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes back the wrong sign-ins counted for a name."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from portal.accounts import attempts
from portal.audit import services as audit


class Command(BaseCommand):
    help = "Forget the wrong sign-ins counted for a name, so that its person need not wait."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")

    def handle(self, *args: Any, **options: Any) -> None:
        if not attempts.forget(options["name"]):
            self.stdout.write("Nothing was counted for this name.")
            return
        audit.record("login.attempts_forgotten", actor=None, via="command", username=options["name"][:150])
        self.stdout.write("Its wrong sign-ins are forgotten.")
