# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of the Manager's answers, as a middleware of its HTTP server."""

from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Middleware

from lab.control import rights
from lab.control.book import Fault, FaultBook
from lab.control.paths import api_path, matches
from lab.engine.faults import EngineFault

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Refusal = Callable[[web.Request, str, EngineFault], web.Response]
GARBAGE = b"<fault><detail>[Internal Eng\x00\xff"
# ovirt-engine AppErrors.properties: ACTION_TYPE_FAILED_OBJECT_LOCKED, USER_NOT_AUTHORIZED_TO_PERFORM_ACTION.
DETAILS = {
    403: "[User is not authorized to perform this action.]",
    409: "[Related operation is currently in progress. Please try again later.]",
    500: "[Internal Engine Error]",
}
# Of Apache httpd, which stands in front of the engine; shortened, wording inferred.
HTML = (
    "<!DOCTYPE HTML><html><head><title>{status} {reason}</title></head><body><h1>{reason}</h1></body></html>"
)


class AnswerFaults:
    """`refuse` makes the API's own answer to an EngineFault; `lose_session` ends that of the request and answers
    401 as the container does."""

    def __init__(
        self, book: FaultBook, refuse: Refusal, lose_session: Callable[[web.Request], web.Response]
    ) -> None:
        self._book = book
        self._refuse = refuse
        self._lose_session = lose_session

    def middleware(self) -> Middleware:
        @web.middleware
        async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
            refusal = self._forbidden(request) or self._unseen(request)
            if refusal is not None:
                return refusal
            fault = self._book.strike("answer", lambda fault: fits(fault, request))
            if fault is not None:
                return await self._answer(fault, request, handler)
            return self._filtered(request, await handler(request))

        return middleware

    def _forbidden(self, request: web.Request) -> web.Response | None:
        path = api_path(request)

        def fits(fault: Fault) -> bool:
            wanted = rights.asked(fault["permit"], fault["on"])
            return any(method == request.method and matches(pattern, path) for method, pattern in wanted)

        if self._book.strike("forbidden", fits) is None:
            return None
        return self._refuse(request, path, EngineFault(403, DETAILS[403]))

    def _unseen(self, request: web.Request) -> web.Response | None:
        """404 without a body for what lies below a hidden collection."""
        path = api_path(request)

        def fits(fault: Fault) -> bool:
            below = f"{fault['path'].rstrip('/')}/{fault['which'] or '*'}"
            return matches(f"{below}/**", path)

        return None if self._book.strike("hidden", fits) is None else web.Response(status=404)

    def _filtered(self, request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
        if request.method != "GET" or response.status != 200 or not isinstance(response, web.Response):
            return response
        fault = self._book.strike("hidden", lambda fault: matches(fault["path"], api_path(request)))
        if fault is not None and isinstance(response.body, bytes):
            response.body = rights.emptied(response.body, fault["which"])
        return response

    async def _answer(self, fault: Fault, request: web.Request, handler: Handler) -> web.StreamResponse:
        if fault["how"] in ("error", "cut"):
            if fault["seconds"] is not None:
                await fault.removed()
            return _cut(request) if fault["how"] == "cut" else self._error(fault, request)
        response = await handler(request)
        if fault["how"] == "slow" or fault["seconds"] is not None:
            await fault.removed()
        if fault["how"] == "lost":
            return _cut(request)
        if fault["how"] == "truncated":
            return await _truncated(request, response)
        if fault["how"] == "garbage":
            return web.Response(status=response.status, body=GARBAGE, content_type="application/xml")
        return response

    def _error(self, fault: Fault, request: web.Request) -> web.Response:
        status: int = fault["status"]
        if status == 401:
            return self._lose_session(request)
        if fault["shape"] == "html":
            reason = web.Response(status=status).reason or "Error"
            text = HTML.format(status=status, reason=reason)
            return web.Response(status=status, text=text, content_type="text/html")
        if status == 404 and fault["detail"] is None:
            return web.Response(status=404)
        detail = fault["detail"] or DETAILS.get(status, "[Internal Engine Error]")
        return self._refuse(request, api_path(request), EngineFault(status, detail, fault["reason"]))


def fits(fault: Fault, request: web.Request) -> bool:
    return fault["method"] in ("*", request.method) and matches(fault["path"], api_path(request))


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    # Never sent: the connection is gone.
    return web.Response(status=500)


async def _truncated(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """The headers promise the whole body, half of it comes, then the connection closes."""
    body = response.body if isinstance(response, web.Response) and isinstance(response.body, bytes) else b""
    half = web.StreamResponse(status=response.status, headers={"Content-Type": "application/xml"})
    half.content_length = max(len(body), 2)
    await half.prepare(request)
    await half.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return half
