# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages of allauth that the portal has, under the names by which allauth looks for them.

What is not listed does not exist: nobody signs up by themselves, and nothing is sent by e-mail.
"""

from __future__ import annotations

from allauth.account.views import AccountInactiveView
from django.contrib.auth.decorators import login_not_required
from django.urls import path

from portal.accounts import views

urlpatterns = [
    path("login/", views.SignInView.as_view(), name="account_login"),
    path("logout/", views.SignOutView.as_view(), name="account_logout"),
    path(
        "login/switched-off/",
        login_not_required(AccountInactiveView.as_view(template_name="accounts/inactive.html")),
        name="account_inactive",
    ),
]
