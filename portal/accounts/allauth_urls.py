# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages of allauth that the portal has, under the names by which allauth looks for them.

What is not listed does not exist: nobody signs up by themselves, and nothing is sent by e-mail.
"""

from __future__ import annotations

from allauth.account.views import AccountInactiveView, ReauthenticateView
from allauth.mfa.base import views as mfa
from allauth.mfa.recovery_codes import views as codes
from allauth.mfa.totp import views as totp
from allauth.mfa.webauthn import views as webauthn
from allauth.socialaccount.views import LoginCancelledView
from django.contrib.auth.decorators import login_not_required
from django.urls import include, path, reverse_lazy

from portal.accounts import company, company_views, views
from portal.accounts.mfa import PasskeySignInView

INDEX = reverse_lazy("mfa_index")
CONFIRM = "accounts/confirm.html"

two_step_patterns = [
    path("", mfa.IndexView.as_view(template_name="accounts/two_step.html"), name="mfa_index"),
    path(
        "app/",
        totp.ActivateTOTPView.as_view(template_name="accounts/app_add.html"),
        name="mfa_activate_totp",
    ),
    path(
        "app/remove/",
        totp.DeactivateTOTPView.as_view(template_name="accounts/app_remove.html"),
        name="mfa_deactivate_totp",
    ),
    path(
        "codes/",
        codes.ViewRecoveryCodesView.as_view(template_name="accounts/recovery_codes.html"),
        name="mfa_view_recovery_codes",
    ),
    path(
        "codes/new/",
        codes.GenerateRecoveryCodesView.as_view(template_name="accounts/recovery_codes_new.html"),
        name="mfa_generate_recovery_codes",
    ),
    path(
        "passkeys/add/",
        webauthn.AddWebAuthnView.as_view(template_name="accounts/passkey_add.html"),
        name="mfa_add_webauthn",
    ),
    path(
        "passkeys/<int:pk>/",
        webauthn.EditWebAuthnView.as_view(template_name="accounts/passkey_rename.html", success_url=INDEX),
        name="mfa_edit_webauthn",
    ),
    path(
        "passkeys/<int:pk>/remove/",
        webauthn.RemoveWebAuthnView.as_view(template_name="accounts/passkey_remove.html", success_url=INDEX),
        name="mfa_remove_webauthn",
    ),
]
confirm_patterns = [
    path("", ReauthenticateView.as_view(template_name=CONFIRM), name="account_reauthenticate"),
    path("code/", mfa.ReauthenticateView.as_view(template_name=CONFIRM), name="mfa_reauthenticate"),
    path(
        "passkey/",
        webauthn.ReauthenticateWebAuthnView.as_view(template_name=CONFIRM),
        name="mfa_reauthenticate_webauthn",
    ),
]
urlpatterns = [
    path("login/", views.SignInView.as_view(), name="account_login"),
    path(
        "login/second/",
        mfa.AuthenticateView.as_view(template_name="accounts/second_step.html"),
        name="mfa_authenticate",
    ),
    path("login/passkey/", PasskeySignInView.as_view(), name="mfa_login_webauthn"),
    path(
        "login/switched-off/",
        login_not_required(AccountInactiveView.as_view(template_name="accounts/inactive.html")),
        name="account_inactive",
    ),
    path("logout/", login_not_required(views.SignOutView.as_view()), name="account_logout"),
    path("login/<slug:provider_id>/", company.sign_in, name="openid_connect_login"),
    path("login/<slug:provider_id>/back/", company.come_back, name="openid_connect_callback"),
    path(
        "login/company/cancelled/",
        LoginCancelledView.as_view(template_name="accounts/company_cancelled.html"),
        name="socialaccount_login_cancelled",
    ),
    path("settings/company/", company_views.company, name="socialaccount_connections"),
    path("confirm/", include(confirm_patterns)),
    path("settings/two-step/", include(two_step_patterns)),
]
