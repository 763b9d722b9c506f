# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses of the API, without a slash at the end. A resource is a module in `resources`."""

from django.urls import path

from portal.api.resources import documentation, environments, jobs, points, vms

app_name = "api"
urlpatterns = [
    path("schema", documentation.SchemaView.as_view(), name="schema"),
    path("environments", environments.Environments.as_view(), name="environments"),
    path("environments/<uuid:uuid>", environments.EnvironmentDetail.as_view(), name="environment"),
    path("vms", vms.Vms.as_view(), name="vms"),
    path("vms/<uuid:uuid>", vms.VmDetail.as_view(), name="vm"),
    path("vms/<uuid:uuid>/points/<str:which>", points.VmPoint.as_view(), name="vm_point"),
    path("points", points.Points.as_view(), name="points"),
    path("points/<uuid:uuid>", points.PointDetail.as_view(), name="point"),
    path("jobs", jobs.Jobs.as_view(), name="jobs"),
    path("jobs/<uuid:uuid>", jobs.JobDetail.as_view(), name="job"),
]
