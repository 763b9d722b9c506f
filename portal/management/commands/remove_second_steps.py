# SPDX-License-Identifier: GPL-3.0-or-later
"""For somebody who lost their devices, their app and their recovery codes."""

from __future__ import annotations

from typing import Any

from allauth.mfa.models import Authenticator
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from portal.accounts.models import User
from portal.audit import services as audit


class Command(BaseCommand):
    help = "Take passkeys, authenticator app and recovery codes of a person away, who then signs in by password alone."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")

    def handle(self, *args: Any, **options: Any) -> None:
        person = User.objects.filter(username=options["name"]).first()
        if person is None:
            raise CommandError(f"Nobody is called {options['name']}; nothing was changed.")
        with transaction.atomic():
            theirs = Authenticator.objects.filter(user=person)
            before = sorted(theirs.values_list("type", flat=True))
            theirs.delete()
            audit.record(
                "second_step.remove_all", actor=None, via="command", subject=person, before=before, after=[]
            )
        self.stdout.write(
            f"{person} signs in by password alone now; {len(before)} second steps were removed."
        )
