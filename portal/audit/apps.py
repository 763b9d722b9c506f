# SPDX-License-Identifier: GPL-3.0-or-later
from django.apps import AppConfig


class AuditConfig(AppConfig):
    name = "portal.audit"
    label = "audit"
