# SPDX-License-Identifier: GPL-3.0-or-later
from django.urls import path

from portal.jobs import views

app_name = "jobs"
urlpatterns = [
    path("", views.job_list, name="job_list"),
    path("seen-to/", views.seen_to_all, name="seen_to_all"),
    path("running/", views.running_indicator, name="running_indicator"),
    path("<uuid:job_uuid>/", views.job, name="job"),
    path("<uuid:job_uuid>/progress/", views.job_progress, name="job_progress"),
    path("<uuid:job_uuid>/log/", views.job_log, name="job_log"),
    path("<uuid:job_uuid>/cancel/", views.cancel, name="cancel"),
    path("<uuid:job_uuid>/retry/", views.retry, name="retry"),
    path("<uuid:job_uuid>/seen-to/", views.seen_to, name="seen_to"),
]
