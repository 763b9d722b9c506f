# SPDX-License-Identifier: GPL-3.0-or-later
"""What all addresses of the API have in common. A resource is one module in `resources` made of these."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.http import Http404
from django.utils.cache import patch_vary_headers
from rest_framework.generics import GenericAPIView
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.response import Response

from portal.accounts.models import User
from portal.api import throttling
from portal.api.etags import conditional
from portal.api.fields import address_of
from portal.api.filters import ListParameters, OrderBody, Parameters
from portal.api.idempotency import once
from portal.api.models import ApiToken
from portal.api.pagination import CursorPagination
from portal.api.schema import ApiSchema
from portal.api.scopes import Scope
from portal.audit.behalf import on_behalf
from portal.jobs.models import Job
from portal.paging import BY_ID, Order


class ApiView(GenericAPIView[Any]):
    """Throttled, with entity tags on what is read. `scope` is what a token needs for writing here."""

    scope: Scope = Scope.READ
    parameters_class: type[Parameters] = Parameters
    pagination_class: type[CursorPagination] | None = None
    schema = ApiSchema()
    lookup_field = "uuid"

    @property
    def person(self) -> User:
        """The token's owner with the token's limits, or who is signed in."""
        assert isinstance(self.request.user, User)
        return self.request.user

    @property
    def reads(self) -> bool:
        return self.request.method in SAFE_METHODS

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        token = request.auth
        who = f"token:{token.pk}" if isinstance(token, ApiToken) else f"person:{self.person.pk}"
        name, limit = ("reads", settings.API_READS) if self.reads else ("writes", settings.API_WRITES)
        self.quota = throttling.use(who, name=name, limit=limit)
        parameters = self.parameters_class(data=request.query_params.dict())
        parameters.is_valid(raise_exception=True)
        self.parameters: dict[str, Any] = parameters.validated_data

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Response:
        found = super().finalize_response(request, response, *args, **kwargs)
        quota: throttling.Quota | None = getattr(self, "quota", None)
        extra = quota.headers if quota else {}
        for name, value in extra.items():
            found.headers[name] = value
        if "Cache-Control" not in found.headers:
            found.headers["Cache-Control"] = "private, no-cache"
        patch_vary_headers(found, ["Authorization", "Cookie"])
        if request.method in ("GET", "HEAD") and found.status_code == 200:
            found.add_post_render_callback(conditional(request._request, extra))
        return found

    def rows(self) -> QuerySet[Any]:
        """Everything of this kind that the person may see, with what its serializer reads."""
        raise NotImplementedError

    def get_object(self) -> Any:
        """By its uuid, among what the person may see. Raises Http404, the same for what is another team's."""
        found = self.rows().filter(uuid=self.kwargs["uuid"]).first()
        if found is None:
            raise Http404
        return found


class ActionView(ApiView):
    """POST does what `act` does, once for an Idempotency-Key; `body_class` is what it takes, `answers` the status."""

    body_class: type[OrderBody] = OrderBody
    answers = 202

    def act(self, said: dict[str, Any], **where: Any) -> Response:
        """`said` is the valid body, `where` what the address names."""
        raise NotImplementedError

    def post(self, request: Request, **where: Any) -> Response:
        body = self.body_class(data=request.data)
        body.is_valid(raise_exception=True)
        said: dict[str, Any] = body.validated_data
        with on_behalf(ticket=said["ticket"], requested_for=said["requested_for"]):
            return once(request, self.person, lambda: self.act(said, **where))

    def accepted(self, data: Any, job: Job) -> Response:
        """202 with the address of the job that does it."""
        return Response(data, status=202, headers={"Location": address_of("jobs", job.uuid)})


class ListView(ApiView):
    """GET gives a page of the `narrowed` rows in their `order`."""

    pagination_class = CursorPagination
    parameters_class = ListParameters
    order: Order = BY_ID

    def narrowed(self, rows: QuerySet[Any], parameters: dict[str, Any]) -> QuerySet[Any]:
        return rows

    def get(self, request: Request) -> Response:
        rows = self.narrowed(self.rows(), self.parameters)
        page = self.paginate_queryset(rows)
        return self.get_paginated_response(self.get_serializer(page, many=True).data)


class DetailView(ApiView):
    """GET gives one object by its uuid."""

    def get(self, request: Request, uuid: Any) -> Response:
        return Response(self.get_serializer(self.get_object()).data)
