# SPDX-License-Identifier: GPL-3.0-or-later
"""`manage.py check_rights`: walk every route as everybody, in a database that is thrown away."""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

_FOLDER_PREFIX = "ovirt-backup-portal-rights-"


class Command(BaseCommand):
    help = "Ask every page and every route of the API as everybody, and compare with the table of rights."

    def handle(self, *args: Any, **options: Any) -> None:
        # The walk makes people and machines of its own: only ever in a folder and a database of its own.
        if os.environ.get("PORTAL_RIGHTS") != "1" or not settings.DATA_DIR.name.startswith(_FOLDER_PREFIX):
            self._start_again()
        from portal.rights.walk import walk

        call_command("migrate", verbosity=0)
        logging.disable(logging.CRITICAL)  # a line for each refusal would be most of the table
        figures = walk(Path(settings.DATA_DIR)).figures()
        self.stdout.write(json.dumps(figures))
        if figures["wrong"]:
            raise CommandError(f"{len(figures['wrong'])} cells are not as the table of rights says.")

    def _start_again(self) -> None:
        """In a child, with settings of its own, whose folder is removed afterwards."""
        import subprocess

        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith("PORTAL_") and key not in ("DATABASE_URL", "REDIS_URL")
        }
        with tempfile.TemporaryDirectory(prefix=_FOLDER_PREFIX) as folder:
            environment = {
                **kept,
                "PORTAL_RIGHTS": "1",
                "PORTAL_DATA_DIR": folder,
            }
            manage = str(settings.BASE_DIR / "manage.py")
            done = subprocess.run([sys.executable, manage, "check_rights"], env=environment, check=False)
        sys.exit(done.returncode)
