# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages of the API's lists, by the cursors of portal/paging.py."""

from __future__ import annotations

from typing import Any

from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response

from portal import paging

MAX_PAGE_SIZE = 200


class CursorPagination(BasePagination):
    """`limit` rows in the view's `order`; `next` and `previous` are addresses without the host, or null."""

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        """Raises BadCursor."""
        self.request = request
        parameters = view.parameters
        size = parameters.get("limit", paging.PAGE_SIZE)
        self.page = paging.page_of(queryset, parameters.get("cursor", ""), order=view.order, size=size)
        return list(self.page.rows)

    def get_paginated_response(self, data: Any) -> Response:
        return Response(
            {
                "next": self._address(self.page.older),
                "previous": self._address(self.page.newer),
                "results": data,
            }
        )

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        link = {"type": "string", "nullable": True, "description": "Its address below the portal's."}
        return {
            "type": "object",
            "required": ["next", "previous", "results"],
            "properties": {"next": link, "previous": link, "results": schema},
        }

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        return []  # the list's parameters name `limit` and `cursor` with all others

    def _address(self, cursor: str) -> str | None:
        if not cursor:
            return None
        kept = self.request.query_params.copy()
        kept["cursor"] = cursor
        return f"{self.request.path}?{kept.urlencode()}"
