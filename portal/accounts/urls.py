# SPDX-License-Identifier: GPL-3.0-or-later
from django.contrib.auth.decorators import login_not_required
from django.urls import path

from portal.accounts import session_views, views

app_name = "accounts"
urlpatterns = [
    path("login/", views.SignInView.as_view(), name="login"),
    path("logout/", login_not_required(views.SignOutView.as_view()), name="logout"),
    path("settings/", views.settings, name="settings"),
    path("settings/sessions/", session_views.session_list, name="session_list"),
    path("settings/sessions/<int:pk>/end/", session_views.session_end, name="session_end"),
    path("settings/sessions/end-others/", session_views.session_end_others, name="session_end_others"),
    path("settings/sessions/end-all/", session_views.session_end_all, name="session_end_all"),
]
