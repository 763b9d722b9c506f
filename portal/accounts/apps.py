# SPDX-License-Identifier: GPL-3.0-or-later
from typing import Any

from django.apps import AppConfig
from django.core.management import call_command
from django.db.models.signals import post_migrate


def make_cache_table(using: str, **_: Any) -> None:
    """Where the cache is a table of the database (settings.py), it is made together with the others."""
    call_command("createcachetable", database=using, verbosity=0)


class AccountsConfig(AppConfig):
    name = "portal.accounts"
    label = "accounts"

    def ready(self) -> None:
        from portal.accounts import signals  # noqa: F401

        post_migrate.connect(make_cache_table, sender=self)
