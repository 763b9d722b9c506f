# SPDX-License-Identifier: GPL-3.0-or-later
from django.urls import path

from portal.events import views

app_name = "events"
_ONE = "webhooks/<uuid:webhook_uuid>/"
_DELIVERY = f"{_ONE}deliveries/<uuid:delivery_uuid>/"
urlpatterns = [
    path("webhooks/", views.webhook_list, name="webhook_list"),
    path("webhooks/add/", views.webhook_add, name="webhook_add"),
    path(_ONE, views.webhook, name="webhook"),
    path(f"{_ONE}change/", views.webhook_change, name="webhook_change"),
    path(f"{_ONE}secret/", views.webhook_rotate, name="webhook_secret"),
    path(f"{_ONE}switch/", views.webhook_switch, name="webhook_switch"),
    path(f"{_ONE}remove/", views.webhook_remove, name="webhook_remove"),
    path(f"{_ONE}test/", views.webhook_ping, name="webhook_test"),
    path(f"{_ONE}failed/", views.webhook_failed, name="webhook_failed"),
    path(_DELIVERY, views.delivery, name="delivery"),
    path(f"{_DELIVERY}again/", views.delivery_again, name="delivery_again"),
]
