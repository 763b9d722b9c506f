# SPDX-License-Identifier: GPL-3.0-or-later
"""Machine, method and mode on the jobs that were made before jobs knew them."""

from typing import Any

from django.db import migrations
from django.db.models import OuterRef, Subquery, Value
from django.db.models.functions import Coalesce


def fill(apps: Any, schema_editor: Any) -> None:
    job = apps.get_model("jobs", "Job")
    vms = apps.get_model("environments", "VirtualMachine").objects.filter(pk=OuterRef("vm"))
    points = apps.get_model("backups", "RestorePoint").objects.filter(job=OuterRef("pk"))
    restores = apps.get_model("restores", "Restore").objects.filter(job=OuterRef("pk"))

    def first(rows: Any, column: str) -> Coalesce:
        return Coalesce(Subquery(rows.values(column)[:1]), Value(""))

    unnamed = job.objects.filter(vm_name="")
    unnamed.filter(vm__isnull=False).update(vm_name=first(vms, "name"))
    job.objects.filter(kind="vm_backup", method="").update(
        method=first(points, "method"), mode=first(points, "mode")
    )
    job.objects.filter(kind="vm_restore", method="").update(method=first(restores, "method"))


class Migration(migrations.Migration):
    initial = True
    dependencies = [
        ("jobs", "0007_history"),
        ("backups", "0005_points_of_repository"),
        ("restores", "0001_initial"),
        ("environments", "0002_environment_legacy_backups"),
    ]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
