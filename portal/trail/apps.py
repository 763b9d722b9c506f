# SPDX-License-Identifier: GPL-3.0-or-later
from django.apps import AppConfig


class TrailConfig(AppConfig):
    name = "portal.trail"
    label = "trail"
