# SPDX-License-Identifier: GPL-3.0-or-later
from django.db import migrations

from portal.audit import guards


def put_up(apps, schema_editor):
    guards.put_up(schema_editor.connection)


def take_down(apps, schema_editor):
    guards.take_down(schema_editor.connection)


def queue_what_is_there(apps, schema_editor):
    """Entries from before there were seals are sealed too."""
    entries = apps.get_model("audit", "AuditEntry")
    unsealed = apps.get_model("audit", "AuditUnsealed")
    waiting = [unsealed(entry_id=key) for key in entries.objects.order_by("id").values_list("id", flat=True)]
    unsealed.objects.bulk_create(waiting, batch_size=1000)


class Migration(migrations.Migration):

    dependencies = [("audit", "0002_seals")]

    operations = [
        migrations.RunPython(put_up, take_down),
        migrations.RunPython(queue_what_is_there, migrations.RunPython.noop),
    ]
