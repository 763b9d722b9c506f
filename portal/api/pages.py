# SPDX-License-Identifier: GPL-3.0-or-later
"""The API's description for people, in the portal's own pages."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from portal.api import reference


@require_safe
def docs(request: HttpRequest) -> HttpResponse:
    """Every address with what it takes and gives, and every problem code."""
    context = {"groups": reference.groups(), "codes": reference.codes(), "scopes": reference.scopes()}
    return render(request, "api/docs.html", context)
