# SPDX-License-Identifier: GPL-3.0-or-later
from django.contrib.auth.decorators import login_not_required
from django.urls import path

from portal.accounts import views

app_name = "accounts"
urlpatterns = [
    path("login/", views.SignInView.as_view(), name="login"),
    path("logout/", login_not_required(views.SignOutView.as_view()), name="logout"),
    path("settings/", views.settings, name="settings"),
]
