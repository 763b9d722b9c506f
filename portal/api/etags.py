# SPDX-License-Identifier: GPL-3.0-or-later
"""Entity tags of answers: the digest of their bytes, so that equal answers have equal tags on every process."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.cache import get_conditional_response
from rest_framework.renderers import JSONRenderer


def tag_of(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def tag_of_data(data: Any) -> str:
    """The tag that an answer with this data will have."""
    return tag_of(JSONRenderer().render(data))


def conditional(request: HttpRequest, extra: dict[str, str]) -> Callable[[HttpResponse], HttpResponse]:
    """To be called with the rendered answer: gives it its tag, or 304 to who has it already. `extra` headers stay."""

    def answer(response: HttpResponse) -> HttpResponse:
        tag = tag_of(response.content)
        response.headers["ETag"] = tag
        found = get_conditional_response(request, etag=tag, response=response) or response
        for name, value in extra.items():
            found.headers[name] = value
        return found

    return answer
