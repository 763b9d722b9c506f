# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from backups import anchoring
from portal.audit import sealing


class Command(BaseCommand):
    help = (
        "Read the whole audit history again and compare it with its seals and with the anchors in the repositories. "
        "Names the first bad or missing entry; exit code 1 if there is one."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--accept-anchors",
            metavar="REASON",
            help="record in the history why anchors do not fit (like: the database was restored), then verify",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if reason := options["accept_anchors"]:
            for anchor in anchoring.accept(reason=reason):
                self.stdout.write(f"Accepted: link {anchor.sequence:,} in {anchor.place}, {anchor.at}")
        sealing.seal_all()
        verdict = anchoring.verify_history()
        for note in verdict.notes:
            self.stderr.write(note)
        if verdict.problem is not None:
            raise CommandError(f"{verdict.problem.text} {verdict.entries:,} entries before it are whole.")
        self.stdout.write(
            f"{verdict.entries:,} entries are whole and in order; the head is {verdict.head}. "
            f"{verdict.anchors} anchors agree. {verdict.seconds:.1f} s."
        )
