# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses and claims of the provider in oidc_provider.py."""

from __future__ import annotations

from typing import Any

from allauth.idp.oidc.adapter import DefaultOIDCAdapter
from django.contrib.auth.models import Group, User
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt


class WithGroups(DefaultOIDCAdapter):
    def get_claims(self, purpose: Any, user: Any, client: Any, scopes: Any, **kwargs: Any) -> dict[str, Any]:
        claims = super().get_claims(purpose, user, client, scopes, **kwargs)
        return {**claims, "groups": [group.name for group in user.groups.all()]}


@csrf_exempt
def person(request: HttpRequest) -> HttpResponse:
    name = request.POST["name"]
    user = User.objects.filter(username=name).first() or User.objects.create_user(name, password=name)
    names = [group for group in request.POST["groups"].split(",") if group]
    user.groups.set([Group.objects.get_or_create(name=group)[0] for group in names])
    return HttpResponse("done")


urlpatterns = [
    path("test/person", person),
    path("accounts/", include("allauth.account.urls")),
    path("", include("allauth.idp.urls")),
]
