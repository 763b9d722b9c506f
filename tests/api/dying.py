# SPDX-License-Identifier: GPL-3.0-or-later
"""The portal for gunicorn, whose process is killed at an instant that a request names. For tests alone."""

import os
import signal
from contextvars import ContextVar
from typing import Any

import django
from django.db.models.signals import post_save

dying: ContextVar[bool] = ContextVar("dying", default=False)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_in_transaction(sender: Any, **_: Any) -> None:
    if dying.get():
        _die()


def application(environ: dict[str, Any], start_response: Any) -> Any:
    """`X-Die: inside` kills the process in the transaction, `X-Die: answer` between its commit and the answer."""
    where = environ.get("HTTP_X_DIE")
    mark = dying.set(where == "inside")
    try:
        answer = portal(environ, start_response)
    finally:
        dying.reset(mark)
    if where == "answer":
        _die()
    return answer


django.setup()
from portal.jobs.models import Job  # noqa: E402
from portal.wsgi import application as portal  # noqa: E402

post_save.connect(_die_in_transaction, sender=Job)
