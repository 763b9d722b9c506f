# SPDX-License-Identifier: GPL-3.0-or-later
"""The API's description of itself."""

from __future__ import annotations

from drf_spectacular.views import SpectacularAPIView


class SchemaView(SpectacularAPIView):
    """All of the API as OpenAPI 3. It holds no secret and is to be had without a token."""

    authentication_classes = []
    permission_classes = []
