# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTPS server of the API."""

import logging
import re
import socket
import ssl
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from email.utils import format_datetime
from urllib.parse import unquote

from aiohttp import web

from lab.api import (
    resources_backups,
    resources_cdroms,
    resources_disks,
    resources_inventory,
    resources_log,
    resources_people,
    resources_snapshots,
    resources_tags,
    resources_vms,
)
from lab.api.answers import failed_action
from lab.api.follow import expand, parse_follow
from lab.api.routing import Call, Reply, Router, split_path
from lab.api.sso import SignOn, unauthorized
from lab.api.xmlio import API, fault_element, to_bytes
from lab.control.answers import AnswerFaults
from lab.engine.events import correlation_id
from lab.engine.faults import EngineFault, EntityMissing, malformed
from lab.engine.manager import Manager
from lab.pki import Pki

log = logging.getLogger(__name__)

MAX_BODY = 64 << 20
NOT_IN_CORRELATION = re.compile(r"[^0-9A-Za-z_-]")
CORRELATION_LENGTH = 36
UNAVAILABLE = (
    "<html><head><title>503 Service Unavailable</title></head><body>Service Unavailable</body></html>"
)
ACTIONS = ("start", "stop", "shutdown", "finalize", "cancel", "pause", "resume", "extend")


class ApiServer:
    """`bind` takes the port on 127.0.0.1 and tells the API's `url`; only `start` answers on it."""

    def __init__(self, manager: Manager, pki: Pki, username: str, password: str) -> None:
        self._manager = manager
        self._pki = pki
        self.sign_on = SignOn(username, password)
        self._router = Router()
        for module in (
            resources_inventory,
            resources_vms,
            resources_backups,
            resources_disks,
            resources_cdroms,
            resources_snapshots,
            resources_tags,
            resources_log,
            resources_people,
        ):
            module.register(self._router)
        self._socket: socket.socket | None = None
        self._runner: web.AppRunner | None = None
        self.url = ""

    def bind(self, port: int) -> None:
        """Raises OSError if the port is taken; 0 takes any."""
        self._socket = socket.create_server(("127.0.0.1", port))
        self.url = f"https://127.0.0.1:{self._socket.getsockname()[1]}{API}"

    async def start(self) -> None:
        assert self._socket is not None
        faults = AnswerFaults(self._manager.core.faults, self._refusal, self._lose_session)
        app = web.Application(client_max_size=MAX_BODY, middlewares=[faults.middleware(), self._gate])
        app.router.add_get("/ovirt-engine/services/health", self._health)
        app.router.add_post("/ovirt-engine/sso/oauth/token", self.sign_on.token)
        app.router.add_post("/ovirt-engine/services/sso-logout", self.sign_on.logout)
        app.router.add_get("/ovirt-engine/services/pki-resource", self._ca_certificate)
        app.router.add_route("*", API, self._handle)
        app.router.add_route("*", API + "{tail:[;/].*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._pki.cert_file, self._pki.key_file)
        await web.SockSite(self._runner, self._socket, ssl_context=context).start()

    async def go_down(self) -> None:
        """Refuse connections and keep the port, until `start`."""
        assert self._socket is not None
        port = self._socket.getsockname()[1]
        await self.close()
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", port))

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        if self._socket is not None:
            self._socket.close()

    async def _ca_certificate(self, request: web.Request) -> web.Response:
        """`/ovirt-engine/services/pki-resource?resource=ca-certificate`, readable without signing on."""
        if request.query.get("resource") != "ca-certificate":
            return web.Response(status=404)
        return web.Response(body=self._pki.ca_file.read_bytes(), content_type="application/x-x509-ca-cert")

    @web.middleware
    async def _gate(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """The web server in front of the engine answers while the engine's service is stopped."""
        host = self._manager.core.engine_host
        if host is not None and host.is_down:
            return web.Response(status=503, text=UNAVAILABLE, content_type="text/html")
        return await handler(request)

    async def _health(self, request: web.Request) -> web.Response:
        """`/ovirt-engine/services/health` (Manager host reference 2.3)."""
        return web.Response(text="DB Up!Welcome to Health Status!")

    def _lose_session(self, request: web.Request) -> web.Response:
        self.sign_on.end_session(request.headers, request.cookies)
        return unauthorized()

    async def _handle(self, request: web.Request) -> web.Response:
        admitted, cookie = self.sign_on.admits(request.headers, request.cookies)
        if not admitted:
            return unauthorized()
        name = _correlation(request)
        token = correlation_id.set(name)
        try:
            response = await self._answer(request)
        finally:
            correlation_id.reset(token)
        response.headers["Correlation-Id"] = name
        response.headers["Date"] = format_datetime(self._manager.core.clock.now(), usegmt=True)
        if cookie is not None:
            response.set_cookie("JSESSIONID", cookie, path=API, secure=True, httponly=True)
        if response.body:
            response.enable_compression()
        return response

    async def _answer(self, request: web.Request) -> web.Response:
        path, version = _path(request)
        try:
            if version != "4":
                raise EngineFault(400, f"Unsupported version: {version}", "Invalid version")
            parts, matrix = split_path(path)
            handlers, ids = self._router.find(parts)
            handler = handlers.get(request.method)
            if handler is None:
                return web.Response(status=405, headers={"Allow": ", ".join(sorted(handlers))})
            if (host := self._manager.core.engine_host) and (not parts or parts[0] == "events"):
                await host.look()
            call = Call(
                manager=self._manager,
                method=request.method,
                path=path,
                ids=ids,
                query={**dict(request.query), **matrix},
                headers=request.headers,
                data=await request.read(),
            )
            answer = await handler(call)
            reply = answer if isinstance(answer, Reply) else Reply(200, answer)
            return await self._follow(call, reply)
        except EntityMissing:
            return web.Response(status=404)
        except EngineFault as error:
            return self._refusal(request, path, error)
        except web.HTTPException:
            raise
        except Exception:  # the lab must outlive any request
            log.exception("%s %s", request.method, path)
            return self._refusal(request, path, EngineFault(500, "[Internal Engine Error]"))

    def _refusal(self, request: web.Request, path: str, error: EngineFault) -> web.Response:
        if request.method == "POST" and split_path(path)[0][-1:] and split_path(path)[0][-1] in ACTIONS:
            return _xml(failed_action(error))
        return _xml(Reply(error.status, fault_element(error)))

    async def _follow(self, call: Call, reply: Reply) -> web.Response:
        paths = parse_follow(call.query.get("follow", ""))
        if paths and reply.element is not None:
            await expand(self._router, replace(call, query={}), reply.element, paths)
        return _xml(reply)


def _path(request: web.Request) -> tuple[str, str]:
    """The path below the API's root, still with matrix parameters, and the API version that is asked for."""
    path = unquote(request.rel_url.raw_path).removeprefix(API)
    version = request.headers.get("Version", "4").strip()
    match = re.match(r"/v(\d+)(?=[/;]|$)", path)
    if match:
        return path[match.end() :], match[1]
    return path, version


def _correlation(request: web.Request) -> str:
    wanted = request.headers.get("Correlation-Id") or request.query.get("correlation_id")
    return NOT_IN_CORRELATION.sub("_", wanted)[:CORRELATION_LENGTH] if wanted else str(uuid.uuid4())


def _xml(reply: Reply) -> web.Response:
    if reply.element is None:
        return web.Response(status=reply.status, headers=dict(reply.headers))
    try:
        body = to_bytes(reply.element)
    except (ValueError, TypeError) as error:
        raise malformed(str(error)) from error
    return web.Response(
        status=reply.status,
        body=body,
        content_type="application/xml",
        charset="utf-8",
        headers=dict(reply.headers),
    )
