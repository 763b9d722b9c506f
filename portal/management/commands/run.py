# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole portal in one command: web, workers and beat."""

from __future__ import annotations

import os
import signal
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser

from backups import services
from portal.accounts.models import User
from portal.supervisor import Supervisor, portal_children


class Command(BaseCommand):
    help = "Run web, workers and beat; migrate first. Stop with Ctrl-C or SIGTERM."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--bind", default="127.0.0.1:8000", help="address of the web server")
        parser.add_argument("--workers", type=int, default=2, help="worker processes")
        parser.add_argument("--concurrency", type=int, default=2, help="jobs at once in each worker")

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("migrate", verbosity=0)
        services.ensure_default_repository()
        self._let_somebody_in()
        children = portal_children(
            bind=options["bind"],
            workers=options["workers"],
            concurrency=options["concurrency"],
            data_dir=settings.DATA_DIR,
        )
        supervisor = Supervisor(children, os.environ)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: supervisor.stop())
        supervisor.start()
        self.stdout.write(f"The portal listens on http://{options['bind']}/")
        supervisor.watch()

    def _let_somebody_in(self) -> None:
        """At the first start. Only to a terminal: what a service prints is kept in a log."""
        if User.objects.exists():
            return
        if self.stdout.isatty():
            call_command("first_admin", stdout=self.stdout)
        else:
            self.stdout.write("Nobody can sign in yet. Run `manage.py first_admin` in a terminal.")
