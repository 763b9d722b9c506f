# SPDX-License-Identifier: GPL-3.0-or-later
"""`make demo`: see it work on this machine, or prove that it does (`make demo CHECK=1`)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

_FOLDER_PREFIX = "ovirt-backup-portal-demo-"
# Shorter than in production, so that a killed worker is noticed within the demo's patience.
_ENVIRONMENT = {
    "PORTAL_JOB_HEARTBEAT": "1",
    "PORTAL_JOB_LEASE": "6",
    "PORTAL_JOB_RING_AFTER": "2",
    "PORTAL_INVENTORY_EVERY": "10",
}


class Command(BaseCommand):
    help = "Start a lab and a portal; back up, restore and prove it; leave the portal open."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--check", action="store_true", help="print one JSON object and end")
        parser.add_argument(
            "--bind", help="address of the web server (127.0.0.1:8000; with --check any free port)"
        )
        parser.add_argument("--lag", default="0.1", help="the lab's engine lag: real, fast or a factor")
        parser.add_argument("--profile", default="demo", help="size of the lab's disks: demo or small")

        parser.add_argument("--keep", action="store_true", help="do not remove the demo's data and logs")

    def handle(self, *args: Any, **options: Any) -> None:
        # Whatever the environment says, only a folder of the demo's own is ever used and removed.
        if os.environ.get("PORTAL_DEMO") != "1" or not settings.DATA_DIR.name.startswith(_FOLDER_PREFIX):
            self._start_again()
        try:
            self._run(options)
        finally:
            if options["keep"]:
                self.stderr.write(f"The demo's data is kept in {settings.DATA_DIR}")
            else:
                shutil.rmtree(settings.DATA_DIR, ignore_errors=True)

    def _start_again(self) -> None:
        """Settings are read once: the demo gets a data folder of its own before they are."""
        folder = tempfile.mkdtemp(prefix=_FOLDER_PREFIX)
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith("PORTAL_") and key not in ("DATABASE_URL", "REDIS_URL")
        }
        environment = {**kept, **_ENVIRONMENT, "PORTAL_DEMO": "1", "PORTAL_DATA_DIR": folder}
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)  # noqa: S606

    def _run(self, options: dict[str, Any]) -> None:
        from portal.demo import stage, story

        say = self.stderr.write if options["check"] else self.stdout.write
        figures: dict[str, Any] = {}
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        lab_dir = Path(settings.DATA_DIR) / "lab"
        say("Starting the lab (a stand-in Manager with real disks) and the portal …")
        try:
            set_up = self._set_up(lab_dir, options)
        except stage.DemoFailed as error:
            raise CommandError(str(error)) from error
        try:
            stage.wait_until_serving(set_up.url)
            figures = story.tell_the_story(set_up, say)
            if not options["check"]:
                self._stay_open(set_up, figures, story.is_right(figures))
        except stage.DemoFailed as error:
            raise CommandError(str(error)) from error
        finally:
            say("Stopping …")
            set_up.close()
        if options["check"]:
            self.stderr.flush()
            self.stdout.write(json.dumps(figures))
            if not story.is_right(figures):
                raise CommandError("The demo's check did not hold; see the figures above.")

    def _set_up(self, lab_dir: Path, options: dict[str, Any]) -> Any:
        from portal.demo import stage

        return stage.set_up(
            lab_dir=lab_dir,
            bind=options["bind"] or ("127.0.0.1:0" if options["check"] else "127.0.0.1:8000"),
            lab_options=["--lag", options["lag"], "--profile", options["profile"]],
        )

    def _stay_open(self, set_up: Any, figures: dict[str, Any], right: bool) -> None:
        self.stdout.write(json.dumps(figures, indent=2))
        self.stdout.write("All proofs hold." if right else "NOT all proofs hold; see above.")
        self.stdout.write(f"\nThe portal is open at {set_up.url}\n\n  user     password        may")
        may = {
            "admin": "everything (platform admin)",
            "olivia": "back up and restore web-01 and db-01 (operator)",
            "victor": "look at web-01 and db-01 (viewer)",
            "oscar": "restore web-01 (its owner by the Manager's word, in no team)",
        }
        for name, password in set_up.passwords.items():
            self.stdout.write(f"  {name:<8} {password:<15} {may[name]}")
        self.stdout.write(f"\nA token for the API (docs/api.md): {set_up.token}")
        self.stdout.write("\nStop with Ctrl-C; the demo's data is removed then.")
        self.stdout.flush()
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            self.stdout.write("")
