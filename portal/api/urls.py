# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses of the API, without a slash at the end. A resource is a module in `resources`."""

from django.urls import path

from portal.api import pages
from portal.api.resources import (
    audit,
    backups,
    documentation,
    environments,
    events,
    jobs,
    points,
    repositories,
    restores,
    teams,
    vms,
)

app_name = "api"
urlpatterns = [
    path("docs", pages.docs, name="docs"),
    path("schema", documentation.SchemaView.as_view(), name="schema"),
    path("environments", environments.Environments.as_view(), name="environments"),
    path("environments/<uuid:uuid>", environments.EnvironmentDetail.as_view(), name="environment"),
    path("vms", vms.Vms.as_view(), name="vms"),
    path("vms/<uuid:uuid>", vms.VmDetail.as_view(), name="vm"),
    path("vms/<uuid:uuid>/points/<str:which>", points.VmPoint.as_view(), name="vm_point"),
    path("points", points.Points.as_view(), name="points"),
    path("points/<uuid:uuid>", points.PointDetail.as_view(), name="point"),
    path("points/<uuid:uuid>/verify", points.PointVerify.as_view(), name="point_verify"),
    path("points/<uuid:uuid>/pin", points.PointPin.as_view(), name="point_pin"),
    path("points/<uuid:uuid>/unpin", points.PointUnpin.as_view(), name="point_unpin"),
    path("points/<uuid:uuid>/hold", points.PointHold.as_view(), name="point_hold"),
    path("points/<uuid:uuid>/release", points.PointRelease.as_view(), name="point_release"),
    path("points/<uuid:uuid>/delete", points.PointDelete.as_view(), name="point_delete"),
    path("points/<uuid:uuid>/undelete", points.PointUndelete.as_view(), name="point_undelete"),
    path("backups", backups.Backups.as_view(), name="backups"),
    path("restores", restores.Restores.as_view(), name="restores"),
    path("restores/plan", restores.RestorePlanning.as_view(), name="restore_plan"),
    path("restores/<uuid:uuid>", restores.RestoreDetail.as_view(), name="restore"),
    path("restores/<uuid:uuid>/approve", restores.RestoreApproval.as_view(), name="restore_approve"),
    path("restores/<uuid:uuid>/refuse", restores.RestoreRefusal.as_view(), name="restore_refuse"),
    path("events", events.Events.as_view(), name="events"),
    path("repositories", repositories.Repositories.as_view(), name="repositories"),
    path("repositories/<uuid:uuid>", repositories.RepositoryDetail.as_view(), name="repository"),
    path("teams", teams.Teams.as_view(), name="teams"),
    path("teams/<uuid:uuid>", teams.TeamDetail.as_view(), name="team"),
    path("audit", audit.AuditEntries.as_view(), name="audit"),
    path("audit/<uuid:uuid>", audit.AuditEntryDetail.as_view(), name="audit_entry"),
    path("jobs", jobs.Jobs.as_view(), name="jobs"),
    path("jobs/<uuid:uuid>", jobs.JobDetail.as_view(), name="job"),
    path("jobs/<uuid:uuid>/cancel", jobs.JobCancel.as_view(), name="job_cancel"),
    path("jobs/<uuid:uuid>/retry", jobs.JobRetry.as_view(), name="job_retry"),
]
