# SPDX-License-Identifier: GPL-3.0-or-later
from django.urls import path

from backups import repository_views, views

app_name = "backups"
urlpatterns = [
    path("machines/<uuid:vm_uuid>/back-up/", views.back_up, name="back_up"),
    path("points/<uuid:point_uuid>/", views.point, name="point"),
    path("points/<uuid:point_uuid>/verify/", views.verify, name="verify"),
    path("points/<uuid:point_uuid>/delete/", views.delete, name="delete"),
    path("points/<uuid:point_uuid>/undelete/", views.undelete, name="undelete"),
    path("points/<uuid:point_uuid>/pin/", views.pin, name="pin"),
    path("points/<uuid:point_uuid>/unpin/", views.unpin, name="unpin"),
    path("points/<uuid:point_uuid>/hold/", views.hold, name="hold"),
    path("points/<uuid:point_uuid>/release/", views.release, name="release"),
    path("repositories/", repository_views.repository_list, name="repository_list"),
    path("repositories/add/", repository_views.repository_add, name="repository_add"),
    path("repositories/<uuid:repository_uuid>/", repository_views.repository, name="repository"),
    path(
        "repositories/<uuid:repository_uuid>/points/",
        repository_views.repository_points,
        name="repository_points",
    ),
    path(
        "repositories/<uuid:repository_uuid>/trash/",
        repository_views.repository_trash,
        name="repository_trash",
    ),
    path(
        "repositories/<uuid:repository_uuid>/change/",
        repository_views.repository_change,
        name="repository_change",
    ),
    path(
        "repositories/<uuid:repository_uuid>/default/",
        repository_views.repository_default,
        name="repository_default",
    ),
    path(
        "repositories/<uuid:repository_uuid>/verify/",
        repository_views.repository_verify,
        name="repository_verify",
    ),
    path(
        "repositories/<uuid:repository_uuid>/collect/",
        repository_views.repository_collect,
        name="repository_collect",
    ),
]
