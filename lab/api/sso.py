# SPDX-License-Identifier: GPL-3.0-or-later
"""Single sign-on: tokens, basic authentication, sessions."""

import base64
import binascii
import hmac
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

IDLE_MINUTES = 30.0
TOKEN_SECONDS = 360_000
CHALLENGES = ('Bearer realm="ENGINE"', 'Basic realm="ENGINE"')


@dataclass
class Session:
    """`idle_seconds` without a request end it; times are monotonic."""

    last_used: float
    idle_seconds: float = IDLE_MINUTES * 60
    csrf: bool = False


class SignOn:
    """Knows one user. Tokens and cookies are sessions that requests keep alive."""

    def __init__(self, username: str, password: str) -> None:
        self._username = username
        self._password = password
        self._tokens: dict[str, Session] = {}
        self._cookies: dict[str, Session] = {}

    def _right(self, username: str, password: str) -> bool:
        name = hmac.compare_digest(username.encode(), self._username.encode())
        return hmac.compare_digest(password.encode(), self._password.encode()) and name

    async def token(self, request: web.Request) -> web.Response:
        """`POST /ovirt-engine/sso/oauth/token`: a token, or 400 with `error_code` and `error` in JSON."""
        form = {key: str(value) for key, value in (await request.post()).items()}
        values = {**dict(request.query), **form}
        if values.get("grant_type") != "password":
            return _sso_error("unsupported_grant_type", f"Unsupported grant type {values.get('grant_type')}.")
        username = values.get("username", "")
        if not self._right(username, values.get("password", "")):
            name, _, domain = username.partition("@")
            text = (
                f"Cannot authenticate user '{name}@{domain or 'N/A'}': The username or password is incorrect."
            )
            return _sso_error("access_denied", text)
        token = secrets.token_urlsafe(64)
        self._tokens[token] = Session(time.monotonic())
        expires = int((time.time() + TOKEN_SECONDS) * 1000)
        return web.json_response(
            {
                "access_token": token,
                "scope": values.get("scope", "ovirt-app-api"),
                "exp": str(expires),
                "token_type": "bearer",
            }
        )

    async def logout(self, request: web.Request) -> web.Response:
        """`POST /ovirt-engine/services/sso-logout`."""
        form = await request.post()
        self._tokens.pop(str(form.get("token", "")), None)
        return web.json_response({})

    def end_session(self, headers: Mapping[str, str], cookies: Mapping[str, str]) -> None:
        """Forget the session that a request belongs to, if it has one."""
        self._tokens.pop(headers.get("Authorization", "").partition(" ")[2].strip(), None)
        self._cookies.pop(cookies.get("JSESSIONID", ""), None)

    def end_all_sessions(self) -> int:
        """Returns how many there were."""
        ended = len(self._tokens) + len(self._cookies)
        self._tokens.clear()
        self._cookies.clear()
        return ended

    def admits(self, headers: Mapping[str, str], cookies: Mapping[str, str]) -> tuple[bool, str | None]:
        """Whether the request may enter, and the new cookie for a session that it opens."""
        scheme, _, value = headers.get("Authorization", "").partition(" ")
        prefer = {word.strip().lower() for word in headers.get("Prefer", "").split(",")}
        if scheme.lower() == "bearer":
            return _alive(self._tokens, value.strip()), None
        cookie = cookies.get("JSESSIONID")
        if (
            cookie
            and "persistent-auth" in prefer
            and "new-auth" not in prefer
            and _alive(self._cookies, cookie)
        ):
            session = self._cookies[cookie]
            return not session.csrf or headers.get("JSESSIONID") == cookie, None
        if scheme.lower() != "basic" or not self._right(*_basic(value)):
            return False, None
        if "persistent-auth" not in prefer:
            return True, None
        cookie = secrets.token_urlsafe(24)
        minutes = headers.get("Session-TTL", "")
        idle = float(minutes) if minutes.isdecimal() and len(minutes) < 6 else IDLE_MINUTES
        self._cookies[cookie] = Session(time.monotonic(), idle * 60, "csrf-protection" in prefer)
        return True, cookie


def _alive(sessions: dict[str, Session], key: str) -> bool:
    """Renews the session's idle time; an idle one is forgotten."""
    session = sessions.get(key)
    if session is None:
        return False
    now = time.monotonic()
    if now - session.last_used > session.idle_seconds:
        del sessions[key]
        return False
    session.last_used = now
    return True


def _basic(value: str) -> tuple[str, str]:
    try:
        text = base64.b64decode(value.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return "", ""
    name, _, password = text.partition(":")
    return name, password


def _sso_error(code: str, text: str) -> web.Response:
    return web.json_response({"error_code": code, "error": text}, status=400)


def unauthorized() -> web.Response:
    """As the container answers: HTML, and a challenge for each scheme."""
    response = web.Response(
        status=401,
        text="<html><head><title>Error</title></head><body>Unauthorized</body></html>",
        content_type="text/html",
    )
    for challenge in CHALLENGES:
        response.headers.add("WWW-Authenticate", challenge)
    return response
