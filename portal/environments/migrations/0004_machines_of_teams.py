import uuid

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    """The relation's own table gets a model, so that it can tell by whom a machine came to a team."""

    dependencies = [
        ("accounts", "0001_initial"),
        ("environments", "0003_owners"),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.CreateModel(
                    name="TeamMachine",
                    fields=[
                        ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                        ("team", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="machine_links", to="accounts.team")),
                        ("virtualmachine", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="team_links", to="environments.virtualmachine")),
                    ],
                    options={
                        "db_table": "environments_virtualmachine_teams",
                        "unique_together": {("virtualmachine", "team")},
                    },
                ),
                migrations.AlterField(
                    model_name="virtualmachine",
                    name="teams",
                    field=models.ManyToManyField(blank=True, related_name="vms", through="environments.TeamMachine", to="accounts.team"),
                ),
            ],
        ),
        migrations.AddField(
            model_name="teammachine",
            name="by_hand",
            field=models.BooleanField(default=True),
        ),
        migrations.AddField(
            model_name="teammachine",
            name="by_rule",
            field=models.BooleanField(default=False),
        ),
        migrations.CreateModel(
            name="TeamRule",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("uuid", models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ("kind", models.CharField(choices=[("tag", "Tag"), ("cluster", "Cluster"), ("name", "Name pattern"), ("owner", "Owner on the Manager")], max_length=20)),
                ("value", models.CharField(max_length=255)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("environment", models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name="+", to="environments.environment")),
                ("team", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="rules", to="accounts.team")),
            ],
            options={"ordering": ["id"]},
        ),
    ]
