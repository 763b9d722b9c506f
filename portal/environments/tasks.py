# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import logging

from celery import shared_task

from portal.environments import services
from portal.environments.models import Environment
from portal.errors import PortalError

log = logging.getLogger(__name__)


@shared_task(name="environments.refresh_all")
def refresh_all() -> None:
    # Without an address: only its restore points are known, from an imported repository.
    for environment in Environment.objects.exclude(api_url=""):
        refresh(environment.pk)


@shared_task(name="environments.refresh")
def refresh(environment_id: int) -> None:
    environment = Environment.objects.get(pk=environment_id)
    try:
        services.refresh_inventory(environment)
    except PortalError as error:
        log.warning("The inventory of %s was not refreshed: %s", environment.name, error)
