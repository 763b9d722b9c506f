# SPDX-License-Identifier: GPL-3.0-or-later
from django.urls import path

from backups import views

app_name = "backups"
urlpatterns = [
    path("machines/<uuid:vm_uuid>/back-up/", views.back_up, name="back_up"),
    path("points/<uuid:point_uuid>/", views.point, name="point"),
    path("points/<uuid:point_uuid>/verify/", views.verify, name="verify"),
    path("points/<uuid:point_uuid>/delete/", views.delete, name="delete"),
]
