# SPDX-License-Identifier: GPL-3.0-or-later
"""One kind of error for everything a person or a program may be told about."""

from __future__ import annotations

import re


class PortalError(Exception):
    """What happened, what was left as it was, and what to do next.

    `message` says what happened and what was left alone; `hint` says how to go on. `code` is a stable
    snake_case name (by default made from the class name), `retryable` says whether the same request may
    succeed later without anybody changing anything, `status` is the HTTP status for pages and the API.
    """

    code: str = ""
    retryable: bool = False
    status: int = 409

    def __init__(
        self, message: str, *, hint: str = "", code: str | None = None, retryable: bool | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code or code_of(type(self))
        if retryable is not None:
            self.retryable = retryable

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class NotAllowed(PortalError):
    """The person may see the thing but not do this with it."""

    status = 403


def code_of(kind: type[PortalError]) -> str:
    """The code of this class of errors: stable, since programs look at it."""
    return kind.code or _snake_case(kind.__name__)


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
