# SPDX-License-Identifier: GPL-3.0-or-later
from django.urls import path

from portal.history import views

app_name = "history"
urlpatterns = [
    path("", views.history_list, name="list"),
    path("calendar/", views.calendar_page, name="calendar"),
    path("coverage/", views.coverage_page, name="coverage"),
    path("history.csv", views.export_csv, name="export_csv"),
    path("history.jsonl", views.export_json_lines, name="export_json_lines"),
]
