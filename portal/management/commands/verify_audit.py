# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from backups import anchoring
from portal.audit import sealing
from portal.audit.exported import verify_export
from portal.audit.verifying import Verdict


class Command(BaseCommand):
    help = (
        "Read the whole audit history again and compare it with its seals and with the anchors in the repositories. "
        "Names the first bad or missing entry; exit code 1 if there is one."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--export",
            type=Path,
            metavar="FILE",
            help="verify an exported file (JSON Lines) instead; the database is not read",
        )
        parser.add_argument(
            "--anchors",
            type=Path,
            metavar="FILE",
            action="append",
            default=[],
            help="with --export: compare with the audit/anchors.jsonl of a repository; may be repeated",
        )
        parser.add_argument(
            "--accept-anchors",
            metavar="REASON",
            help="record in the history why anchors do not fit (like: the database was restored), then verify",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["export"]:
            self._tell(self._of_file(options["export"], options["anchors"]))
            return
        if reason := options["accept_anchors"]:
            for anchor in anchoring.accept(reason=reason):
                self.stdout.write(f"Accepted: link {anchor.sequence:,} in {anchor.place}, {anchor.at}")
        sealing.seal_all()
        self._tell(anchoring.verify_history())

    def _of_file(self, path: Path, anchors: list[Path]) -> Verdict:
        try:
            known = [anchor for each in anchors for anchor in anchoring.anchors_in(each)]
            with path.open("rb") as file:
                return verify_export(file, known)
        except OSError as error:
            raise CommandError(f"{error.filename} cannot be read: {error.strerror}") from error

    def _tell(self, verdict: Verdict) -> None:
        for note in verdict.notes:
            self.stderr.write(note)
        if verdict.problem is not None:
            raise CommandError(f"{verdict.problem.text} {verdict.entries:,} entries before it are whole.")
        self.stdout.write(
            f"{verdict.entries:,} entries are whole and in order; the head is {verdict.head}. "
            f"{verdict.anchors} anchors agree. {verdict.seconds:.1f} s."
        )
