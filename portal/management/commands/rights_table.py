# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from portal.rights import prose


class Command(BaseCommand):
    help = "Write the table of rights into docs/rights.md, after portal/rights/table.py was changed."

    def handle(self, *args: Any, **options: Any) -> None:
        path = prose.document()
        path.write_text(prose.with_table(path.read_text()))
        self.stdout.write(f"{path.name} is written.")
