# SPDX-License-Identifier: GPL-3.0-or-later
from django.apps import AppConfig


class TeamsConfig(AppConfig):
    name = "portal.teams"
    label = "teams"
