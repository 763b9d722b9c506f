# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from portal.audit import sealing, verifying


class Command(BaseCommand):
    help = (
        "Read the whole audit history again and compare it with its seals. "
        "Names the first bad or missing entry; exit code 1 if there is one."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        sealing.seal_all()
        verdict = verifying.verify()
        verifying.keep(verdict)
        for note in verdict.notes:
            self.stderr.write(note)
        if verdict.problem is not None:
            raise CommandError(f"{verdict.problem.text} {verdict.entries:,} entries before it are whole.")
        self.stdout.write(
            f"{verdict.entries:,} entries are whole and in order; the head is {verdict.head}. "
            f"{verdict.anchors} anchors agree. {verdict.seconds:.1f} s."
        )
