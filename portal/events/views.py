# SPDX-License-Identifier: GPL-3.0-or-later
"""Webhooks: the list, one of them with its deliveries, and what can be done with it.

For admins of teams and platform admins; for everybody else these pages do not exist.
"""

from __future__ import annotations

import json
import uuid

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from portal.accounts.models import User
from portal.events import presenters, webhooks
from portal.events.forms import WebhookForm
from portal.events.models import Delivery, Webhook
from portal.paging import list_page

ATTEMPTS_SHOWN = 50


def _manager(request: HttpRequest) -> User:
    if not isinstance(request.user, User) or not webhooks.manages_any(request.user):
        raise Http404
    return request.user


def _webhook(request: HttpRequest, webhook_uuid: uuid.UUID) -> Webhook:
    rows = Webhook.objects.managed_by(_manager(request))
    return get_object_or_404(presenters.with_given_up(rows), uuid=webhook_uuid)


def _delivery(request: HttpRequest, webhook_uuid: uuid.UUID, delivery_uuid: uuid.UUID) -> Delivery:
    webhook = _webhook(request, webhook_uuid)
    delivery = get_object_or_404(webhook.deliveries.select_related("event"), uuid=delivery_uuid)
    delivery.webhook = webhook
    return delivery


@require_safe
def webhook_list(request: HttpRequest) -> HttpResponse:
    rows = presenters.with_given_up(Webhook.objects.managed_by(_manager(request)))
    page = list_page(rows, request.GET, "webhook")
    context = {
        "columns": presenters.LIST_COLUMNS,
        "rows": presenters.list_rows(page.rows),
        "page": page,
    }
    return render(request, "events/webhook_list.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def webhook_add(request: HttpRequest) -> HttpResponse:
    person = _manager(request)
    form = WebhookForm(request.POST or None, person=person)
    if request.method == "POST" and form.is_valid():
        webhook, secret = webhooks.add_webhook(actor=person, **form.cleaned_data)
        return _secret(request, webhook, secret, new=True)
    status = 422 if request.method == "POST" else 200
    return render(request, "events/webhook_add.html", {"form": form}, status=status)


@require_safe
def webhook(request: HttpRequest, webhook_uuid: uuid.UUID) -> HttpResponse:
    """With its deliveries, the newest first; `cursor` pages through."""
    found = _webhook(request, webhook_uuid)
    page = list_page(found.deliveries.select_related("event"), request.GET, "event")
    context = {
        "webhook": found,
        "state": presenters.state(found),
        "machines": presenters.machines(found),
        "facts": presenters.facts(found),
        "page": page,
        "columns": presenters.DELIVERY_COLUMNS,
        "rows": presenters.delivery_rows(page.rows, found),
    }
    return render(request, "events/webhook.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def webhook_change(request: HttpRequest, webhook_uuid: uuid.UUID) -> HttpResponse:
    found = _webhook(request, webhook_uuid)
    person = _manager(request)
    initial = {name: getattr(found, name) for name in ("name", "url", "kinds", "allow_private", "allow_http")}
    form = WebhookForm(request.POST or None, initial=initial, person=person, webhook=found)
    if request.method == "POST" and form.is_valid():
        webhooks.change_webhook(actor=person, webhook=found, **form.cleaned_data)
        messages.success(request, f"{found.name} was changed.")
        return redirect(found)
    status = 422 if request.method == "POST" else 200
    return render(request, "events/webhook_change.html", {"form": form, "webhook": found}, status=status)


@require_POST
def webhook_rotate(request: HttpRequest, webhook_uuid: uuid.UUID) -> HttpResponse:
    found = _webhook(request, webhook_uuid)
    secret = webhooks.rotate_secret(actor=_manager(request), webhook=found)
    return _secret(request, found, secret, new=False)


def _secret(request: HttpRequest, found: Webhook, secret: str, *, new: bool) -> HttpResponse:
    """The one page that ever shows it; nothing between here and the browser keeps it."""
    context = {"webhook": found, "secret": secret, "new": new}
    response = render(request, "events/secret.html", context, status=201 if new else 200)
    response["Cache-Control"] = "no-store"
    return response


@require_POST
def webhook_switch(request: HttpRequest, webhook_uuid: uuid.UUID) -> HttpResponse:
    found = _webhook(request, webhook_uuid)
    enabled = request.POST.get("enabled") == "yes"
    webhooks.switch(actor=_manager(request), webhook=found, enabled=enabled)
    text = "is on: the next event is sent." if enabled else "is off: nothing is sent any more."
    messages.success(request, f"{found.name} {text}")
    return redirect(found)


@require_POST
def webhook_remove(request: HttpRequest, webhook_uuid: uuid.UUID) -> HttpResponse:
    found = _webhook(request, webhook_uuid)
    webhooks.remove(actor=_manager(request), webhook=found)
    messages.success(request, f"{found.name} was removed.")
    return redirect("events:webhook_list")


@require_POST
def webhook_ping(request: HttpRequest, webhook_uuid: uuid.UUID) -> HttpResponse:
    found = _webhook(request, webhook_uuid)
    return redirect(webhooks.ping(actor=_manager(request), webhook=found))


@require_POST
def webhook_failed(request: HttpRequest, webhook_uuid: uuid.UUID) -> HttpResponse:
    """All that were given up: `do=again` sends them again, `do=leave` leaves them."""
    found = _webhook(request, webhook_uuid)
    person = _manager(request)
    if request.POST.get("do") == "again":
        count = webhooks.send_failed_again(actor=person, webhook=found)
        messages.success(request, f"{count} event{'' if count == 1 else 's'} will be sent again.")
    else:
        count = webhooks.leave_failed(actor=person, webhook=found)
        messages.success(request, f"{count} event{'' if count == 1 else 's'} will not be sent.")
    return redirect(found)


@require_safe
def delivery(request: HttpRequest, webhook_uuid: uuid.UUID, delivery_uuid: uuid.UUID) -> HttpResponse:
    """What was sent, when, and what was answered each time."""
    found = _delivery(request, webhook_uuid, delivery_uuid)
    attempts = list(found.attempts.all()[:ATTEMPTS_SHOWN])
    context = {
        "delivery": found,
        "webhook": found.webhook,
        "label": presenters.kind_label(found),
        "state": presenters.delivery_state(found),
        "facts": presenters.delivery_facts(found),
        "attempts": [(attempt, *presenters.attempt_badge(attempt)) for attempt in attempts],
        "payload": json.dumps(found.payload(), indent=2, ensure_ascii=False),
        "pending": found.state == "pending",
    }
    return render(request, "events/delivery.html", context)


@require_POST
def delivery_again(request: HttpRequest, webhook_uuid: uuid.UUID, delivery_uuid: uuid.UUID) -> HttpResponse:
    found = _delivery(request, webhook_uuid, delivery_uuid)
    webhooks.send_again(actor=_manager(request), delivery=found)
    messages.success(request, "It is sent again, under the same id.")
    return redirect(found)
