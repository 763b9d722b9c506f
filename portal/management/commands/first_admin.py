# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the first platform admin and prints the password, once."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from portal.accounts.first_admin import NAME, make_first_admin


class Command(BaseCommand):
    help = "Make the first platform admin with a random password, printed once. Never if anybody exists."

    def handle(self, *args: Any, **options: Any) -> None:
        password = make_first_admin()
        if password is None:
            self.stdout.write("There are people already; nothing was made.")
            return
        self.stdout.write(f"Sign in as {NAME} with the password {password}")
        self.stdout.write("It is shown only here. Change it on the settings page.")
