# SPDX-License-Identifier: GPL-3.0-or-later
from django.apps import AppConfig


class PortalConfig(AppConfig):
    name = "portal"

    def ready(self) -> None:
        from portal import celery  # noqa: F401  the default app that shared tasks bind to
