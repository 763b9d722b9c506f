# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of group rules, for platform admins."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from portal.accounts import groups
from portal.accounts.forms import GroupRuleForm
from portal.accounts.models import GroupRule, User


@require_http_methods(["GET", "HEAD", "POST"])
def rule_list(request: HttpRequest) -> HttpResponse:
    person = _platform_admin(request)
    form = GroupRuleForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        rule = groups.add_rule(actor=person, **form.rule())
        messages.success(request, f"People in {rule.group} are {rule.gives} now.")
        return redirect("accounts:group_rules")
    context = {
        "form": form,
        "rules": GroupRule.objects.select_related("team"),
        "oidc": bool(settings.OIDC_URL),
        "ldap": bool(settings.LDAP_URL),
        "claim": settings.OIDC_GROUPS_CLAIM,
    }
    return render(request, "accounts/groups.html", context, status=422 if request.method == "POST" else 200)


@require_POST
def rule_remove(request: HttpRequest, pk: int) -> HttpResponse:
    person = _platform_admin(request)
    rule = get_object_or_404(GroupRule.objects.select_related("team"), pk=pk)
    groups.remove_rule(rule, actor=person)
    messages.success(request, f"People in {rule.group} are no longer {rule.gives} by it.")
    return redirect("accounts:group_rules")


def _platform_admin(request: HttpRequest) -> User:
    person = request.user
    if not isinstance(person, User) or not person.is_platform_admin:
        raise Http404
    return person
