# SPDX-License-Identifier: GPL-3.0-or-later
from django.contrib.auth.decorators import login_not_required
from django.urls import path

from portal.accounts import company_views, group_views, session_views, views

app_name = "accounts"
urlpatterns = [
    path("login/", views.SignInView.as_view(), name="login"),
    path("logout/", login_not_required(views.SignOutView.as_view()), name="logout"),
    path("settings/", views.settings, name="settings"),
    path("settings/company/disconnect/", company_views.disconnect, name="company_disconnect"),
    path("settings/groups/", group_views.rule_list, name="group_rules"),
    path("settings/groups/<int:pk>/remove/", group_views.rule_remove, name="group_rule_remove"),
    path("settings/sessions/", session_views.session_list, name="session_list"),
    path("settings/sessions/<int:pk>/end/", session_views.session_end, name="session_end"),
    path("settings/sessions/end-others/", session_views.session_end_others, name="session_end_others"),
    path("settings/sessions/end-all/", session_views.session_end_all, name="session_end_all"),
]
