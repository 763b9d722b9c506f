# SPDX-License-Identifier: GPL-3.0-or-later
from django.urls import path

from restores import views

app_name = "restores"
urlpatterns = [path("points/<uuid:point_uuid>/restore/", views.restore, name="restore")]
