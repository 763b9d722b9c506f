# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages below the settings."""

from django.urls import path

from portal.api import token_views as views

app_name = "tokens"
urlpatterns = [
    path("tokens/", views.token_list, name="token_list"),
    path("tokens/add/", views.token_add, name="token_add"),
    path("tokens/<uuid:token_uuid>/", views.token, name="token"),
    path("tokens/<uuid:token_uuid>/revoke/", views.token_revoke, name="token_revoke"),
    path("services/", views.service_list, name="service_list"),
    path("services/add/", views.service_add, name="service_add"),
    path("services/<uuid:service_uuid>/", views.service, name="service"),
    path("services/<uuid:service_uuid>/switch/", views.service_switch, name="service_switch"),
    path("services/<uuid:service_uuid>/tokens/add/", views.service_token_add, name="service_token_add"),
]
