# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading what is sent: JSON, of a size and depth that a program of good will would send."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser

from portal.api.errors import BodyTooLarge

# Bytes. The largest body that makes sense here is a few kilobytes.
LARGEST = 256 * 1024


class BodyParser(JSONParser):
    """Raises BodyTooLarge before anything is read, and ParseError for what nests deeper than Python follows."""

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        request = (parser_context or {})["request"]
        if int(request.META.get("CONTENT_LENGTH") or 0) > LARGEST:
            raise BodyTooLarge(f"The body is larger than {LARGEST // 1024} KiB; it was not read.")
        try:
            found: dict[str, Any] = super().parse(stream, media_type, parser_context)
        except RecursionError as error:
            raise ParseError("The JSON nests too deep.") from error
        return found
