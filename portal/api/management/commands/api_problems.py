# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/api-problems.md: written, or compared with what it would be."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from portal.api.codes import all_codes, as_markdown


class Command(BaseCommand):
    help = "Compare docs/api-problems.md with the errors of the portal; --write brings it up to date."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--write", action="store_true", help="write the page anew")

    def handle(self, *args: Any, **options: Any) -> None:
        page = settings.BASE_DIR / "docs" / "api-problems.md"
        codes = all_codes()
        if silent := [code.code for code in codes if not code.meaning]:
            raise CommandError(f"These errors say nothing of themselves in a docstring: {', '.join(silent)}")
        wanted = as_markdown(codes)
        if options["write"]:
            page.write_text(wanted)
        elif not page.exists() or page.read_text() != wanted:
            raise CommandError("docs/api-problems.md is behind the code: run manage.py api_problems --write")
