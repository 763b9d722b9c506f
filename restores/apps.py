# SPDX-License-Identifier: GPL-3.0-or-later
from django.apps import AppConfig


class RestoresConfig(AppConfig):
    name = "restores"
