# SPDX-License-Identifier: GPL-3.0-or-later
"""The control endpoint: plain HTTP on 127.0.0.1, JSON in and out."""

import json
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from lab.control.actions import ACTIONS, Grip
from lab.control.book import FaultBook
from lab.control.kinds import KINDS
from lab.control.schema import ControlError, read

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ControlServer:
    """`GET /` describes everything; `/faults`, `/faults/ID` and `/actions/NAME` do it."""

    def __init__(self, grip: Grip) -> None:
        self._grip = grip
        self._book: FaultBook = grip.core.faults
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def start(self, port: int) -> None:
        """Raises OSError if the port is taken; 0 takes any."""
        app = web.Application(middlewares=[_told_in_json])
        app.router.add_get("/", self._describe)
        app.router.add_get("/faults", self._list)
        app.router.add_post("/faults", self._add)
        app.router.add_delete("/faults", self._clear)
        app.router.add_get("/faults/{id}", self._get)
        app.router.add_delete("/faults/{id}", self._remove)
        app.router.add_post("/actions/{name}", self._act)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        listener = socket.create_server(("127.0.0.1", port))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        await web.SockSite(self._runner, listener).start()

    async def close(self) -> None:
        await self._grip.outage.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _describe(self, request: web.Request) -> web.Response:
        return web.json_response(
            {
                "faults": {name: kind.told() for name, kind in sorted(KINDS.items())},
                "actions": {name: action.told() for name, action in sorted(ACTIONS.items())},
            }
        )

    async def _list(self, request: web.Request) -> web.Response:
        return web.json_response({"faults": [fault.told() for fault in self._book.all()]})

    async def _add(self, request: web.Request) -> web.Response:
        fault = self._book.add(await _body(request))
        log.info("fault %s: %s", fault.id, fault.told())
        return web.json_response(fault.told(), status=201)

    async def _get(self, request: web.Request) -> web.Response:
        return web.json_response(self._book.get(request.match_info["id"]).told())

    async def _remove(self, request: web.Request) -> web.Response:
        return web.json_response(self._book.remove(request.match_info["id"]).told())

    async def _clear(self, request: web.Request) -> web.Response:
        removed = [self._book.remove(fault.id) for fault in self._book.all()]
        return web.json_response({"faults": [fault.told() for fault in removed]})

    async def _act(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in ACTIONS:
            raise ControlError(f"There is no action {name!r}; there are {', '.join(sorted(ACTIONS))}.")
        action = ACTIONS[name]
        values = read(f"the action {name}", action.fields, await _body(request))
        log.info("action %s: %s", name, values)
        return web.json_response(await action.run(self._grip, values))


async def _body(request: web.Request) -> dict[str, Any]:
    text = await request.text()
    try:
        body = json.loads(text) if text.strip() else {}
    except ValueError as error:
        raise ControlError(f"The body is not JSON: {error}.") from error
    if not isinstance(body, dict):
        raise ControlError("The body must be a JSON object.")
    return body


@web.middleware
async def _told_in_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ControlError as error:
        return web.json_response({"error": str(error)}, status=error.status)
    except web.HTTPException as error:
        text = "There are GET /, /faults, /faults/ID and POST /actions/NAME."
        return web.json_response({"error": f"{error.reason}. {text}"}, status=error.status)
    except Exception as error:  # whoever breaks the lab wants to know how that failed
        log.exception("%s %s", request.method, request.path)
        return web.json_response({"error": f"{type(error).__name__}: {error}"}, status=500)
