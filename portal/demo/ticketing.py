# SPDX-License-Identifier: GPL-3.0-or-later
"""A ticket that restores a machine, over HTTP alone: planned, ordered twice, closed by a webhook."""

from __future__ import annotations

import hmac
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from portal.accounts.models import Membership, Team, User
from portal.accounts.roles import Role
from portal.api import tokens
from portal.api.scopes import Scope
from portal.demo.stage import DemoFailed, Stage
from portal.events import signing, webhooks
from portal.events.kinds import EventKind
from portal.jobs.models import Job

TICKET = "INC0010001"
_WAIT_SECONDS = 180


class Receiver:
    """Believes requests that are signed with `secret`; `events` are those."""

    def __init__(self) -> None:
        self.secret = ""
        self.url = ""
        self.events: list[dict[str, Any]] = []

    def hear(self, headers: Any, body: bytes) -> bool:
        expected = signing.signature(self.secret, headers.get("X-Portal-Timestamp", ""), body)
        if not hmac.compare_digest(expected, headers.get("X-Portal-Signature", "")):
            return False
        self.events.append(json.loads(body))
        return True


@contextmanager
def listening() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            believed = receiver.hear(self.headers, self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204 if believed else 401)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: the demo's words are its own."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, name="ticketing", daemon=True).start()
    receiver.url = f"http://127.0.0.1:{server.server_port}/hook"
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()


class Client:
    """The API by a token. An answer of any status is an answer: status, headers, body."""

    def __init__(self, portal: str, token: str) -> None:
        self._portal, self._token = portal.rstrip("/"), token

    def ask(self, method: str, path: str, body: Any = None, key: str = "") -> tuple[int, Any, Any]:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        if key:
            headers["Idempotency-Key"] = key
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(f"{self._portal}{path}", data, headers, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                return answer.status, answer.headers, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, error.headers, json.load(error)


def service_token(admin: User) -> str:
    """The token of a service account that may back up and restore the team's machines."""
    service = User(username="ticketing", is_service=True)
    service.set_unusable_password()
    service.save()
    Membership.objects.create(team=Team.objects.get(name="Web shop"), user=service, role=Role.OPERATOR)
    scopes = [Scope.READ, Scope.BACKUP, Scope.RESTORE]
    return tokens.create_token(actor=admin, owner=service, name="Tickets", scopes=scopes, via="command")[1]


def restore_by_ticket(stage: Stage, admin: User, machine: str) -> dict[str, bool]:
    """`idempotent`: the same order twice is one job, another one under its key is refused. `webhook_received`: the
    end of that job came, signed."""
    client = Client(stage.url, stage.token)
    with listening() as receiver:
        webhook, receiver.secret = webhooks.add_webhook(
            actor=admin,
            name="Tickets",
            url=receiver.url,
            kinds=[EventKind.JOB_STARTED, EventKind.JOB_SUCCEEDED, EventKind.JOB_FAILED],
            team=Team.objects.get(name="Web shop"),
            allow_private=True,
            allow_http=True,
            via="command",
        )
        order = {
            "vm": {"name": machine},
            "point": "latest",
            "name": f"{machine}-{TICKET.lower()}",
            "ticket": TICKET,
            "requested_for": "erika@example.com",
        }
        status, _, plan = client.ask("POST", "/api/v1/restores/plan", order)
        if status != 200 or plan["blockers"]:
            raise DemoFailed(f"The restore could not be planned by the API: {plan}")
        order["plan_hash"] = plan["plan_hash"]
        answers = [client.ask("POST", "/api/v1/restores", order, key=f"{TICKET}-restore") for _ in range(2)]
        other = client.ask("POST", "/api/v1/restores", {**order, "ticket": "X"}, key=f"{TICKET}-restore")
        (first, _, started), (second, replayed, again) = answers
        if first != 202:
            raise DemoFailed(f"The restore could not be started by the API: {started}")
        job = _ended(client, started["job"]["url"])
        closed = _wait_for_end(receiver, job["uuid"])
    webhooks.switch(actor=admin, webhook=webhook, enabled=False, via="command")  # nobody listens any more
    jobs = Job.objects.filter(ticket=TICKET, kind="vm_restore").count()
    same = (second, again["uuid"], replayed.get("Idempotency-Replayed")) == (202, started["uuid"], "true")
    return {
        "idempotent": same and other[0] == 409 and jobs == 1,
        "webhook_received": bool(
            job["state"] == "succeeded"
            and closed
            and closed["kind"] == EventKind.JOB_SUCCEEDED
            and closed["result"]["identical"]
        ),
    }


def _ended(client: Client, address: str) -> Any:
    deadline = time.monotonic() + _WAIT_SECONDS
    while time.monotonic() < deadline:
        status, _, job = client.ask("GET", f"{address}?wait=30")
        if status == 200 and job["finished_at"]:
            return job
        time.sleep(0.5)  # a web process with too many that wait answers at once
    raise DemoFailed("The restore that was ordered by the API did not end in time.")


def _wait_for_end(receiver: Receiver, job: str) -> dict[str, Any] | None:
    """The event of the job's end, if it comes."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for event in list(receiver.events):
            if event["job"]["id"] == job and event["kind"] != EventKind.JOB_STARTED:
                return event
        time.sleep(0.1)
    return None
