# SPDX-License-Identifier: GPL-3.0-or-later
from django.urls import path

from restores import approval_views, views

app_name = "restores"
urlpatterns = [
    path("points/<uuid:point_uuid>/restore/", views.restore, name="restore"),
    path("approvals/", approval_views.approval_list, name="approval_list"),
    path("approvals/<uuid:restore_uuid>/", approval_views.approval, name="approval"),
    path("approvals/<uuid:restore_uuid>/approve/", approval_views.approve, name="approve"),
    path("approvals/<uuid:restore_uuid>/refuse/", approval_views.refuse, name="refuse"),
]
