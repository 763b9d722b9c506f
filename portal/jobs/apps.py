# SPDX-License-Identifier: GPL-3.0-or-later
from django.apps import AppConfig


class JobsConfig(AppConfig):
    name = "portal.jobs"
    label = "jobs"
