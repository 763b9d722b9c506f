# SPDX-License-Identifier: GPL-3.0-or-later
from django.urls import path

from portal.teams import machine_views, views

app_name = "teams"
urlpatterns = [
    path("teams/", views.team_list, name="team_list"),
    path("teams/add/", views.team_add, name="team_add"),
    path("teams/<uuid:team_uuid>/", views.team, name="team"),
    path("teams/<uuid:team_uuid>/rename/", views.team_rename, name="team_rename"),
    path("teams/<uuid:team_uuid>/approval/", views.team_approval, name="team_approval"),
    path("teams/<uuid:team_uuid>/quotas/", views.team_quotas, name="team_quotas"),
    path("teams/<uuid:team_uuid>/people/", views.set_role, name="set_role"),
    path("teams/<uuid:team_uuid>/people/remove/", views.remove_person, name="remove_person"),
    path("teams/<uuid:team_uuid>/machines/add/", views.add_machine, name="add_machine"),
    path("teams/<uuid:team_uuid>/machines/remove/", views.remove_machine, name="remove_machine"),
    path("teams/<uuid:team_uuid>/rules/preview/", views.preview_rules, name="preview_rules"),
    path("teams/<uuid:team_uuid>/rules/save/", views.save_rules, name="save_rules"),
    path("machines/<uuid:vm_uuid>/people/", machine_views.people, name="machine_people"),
    path("machines/<uuid:vm_uuid>/people/revoke/", machine_views.revoke, name="machine_revoke"),
]
