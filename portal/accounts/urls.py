# SPDX-License-Identifier: GPL-3.0-or-later
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import LogoutView
from django.urls import path

from portal.accounts import views

app_name = "accounts"
urlpatterns = [
    path("login/", login_not_required(views.LoginView.as_view()), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("settings/", views.settings, name="settings"),
]
