# SPDX-License-Identifier: GPL-3.0-or-later
from django.apps import AppConfig


class EnvironmentsConfig(AppConfig):
    name = "portal.environments"
    label = "environments"

    def ready(self) -> None:
        from portal.environments import signals  # noqa: F401  it listens
