# SPDX-License-Identifier: GPL-3.0-or-later
from django.urls import path

from portal.trail import views

app_name = "trail"
urlpatterns = [
    path("audit/", views.entries, name="entries"),
    path("audit/verify/", views.verify, name="verify"),
    path("audit/export.csv", views.export_file, {"form": "csv"}, name="export_csv"),
    path("audit/export.jsonl", views.export_file, {"form": "jsonl"}, name="export_jsonl"),
    path("audit/<uuid:entry_uuid>/", views.entry, name="entry"),
]
