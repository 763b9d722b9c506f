# SPDX-License-Identifier: GPL-3.0-or-later
"""One's own account at the company's sign-in: connected to the one here, or not."""

from __future__ import annotations

from allauth.account.adapter import get_adapter
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from portal.accounts.company import PROVIDER_ID
from portal.accounts.models import User
from portal.audit import services as audit
from portal.errors import PortalError


class LastWayIn(PortalError):
    """Without it this person could not sign in any more."""


@require_safe
def company(request: HttpRequest) -> HttpResponse:
    connected = list(SocialAccount.objects.filter(user=request.user).order_by("pk"))
    if not settings.OIDC_URL and not connected:
        raise Http404
    context = {"connected": connected, "name": settings.OIDC_NAME, "provider_id": PROVIDER_ID}
    return render(request, "accounts/company.html", context)


@require_POST
def disconnect(request: HttpRequest) -> HttpResponse:
    person = request.user
    assert isinstance(person, User)
    theirs = SocialAccount.objects.filter(user=person)
    if not theirs:
        raise Http404
    keys = Authenticator.objects.filter(user=person, type=Authenticator.Type.WEBAUTHN)
    if not person.has_usable_password() and not any(key.wrap().is_passwordless for key in keys):
        raise LastWayIn(
            "You have no password and no passkey here, so the two accounts were left connected.",
            hint="Add a passkey that is enough by itself first.",
        )
    theirs.delete()
    audit.record(
        "company.disconnect",
        actor=person,
        subject=person,
        address=get_adapter(request).get_client_ip(request),
    )
    messages.success(request, "The two accounts are no longer connected.")
    return redirect("accounts:settings")
