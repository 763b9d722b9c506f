# SPDX-License-Identifier: GPL-3.0-or-later
from django.apps import AppConfig


class ApiConfig(AppConfig):
    name = "portal.api"
    label = "api"

    def ready(self) -> None:
        from portal.api import schema  # noqa: F401 - tells drf-spectacular of our authentication
