# SPDX-License-Identifier: GPL-3.0-or-later
"""Tickets, kept in a file: what was asked for, what the portal was told, and what it said.

Everything is written down before it is done, so that the desk may be killed at any moment and goes on afterwards:
an order is sent again with the same Idempotency-Key, and events are read on from the last number.
"""

import json
import os
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

ENDED = ("job.succeeded", "job.failed")


class Portal:
    """The portal's API. Raises OSError if no answer comes; an answer of any status is an answer."""

    def __init__(self, url: str, token: str) -> None:
        self._url, self._token = url.rstrip("/"), token

    def get(self, path: str) -> tuple[int, Any]:
        return self._ask("GET", path)

    def post(self, path: str, body: Any, key: str = "") -> tuple[int, Any]:
        return self._ask("POST", path, json.dumps(body).encode(), {"Idempotency-Key": key} if key else {})

    def _ask(
        self, method: str, path: str, body: bytes | None = None, more: dict[str, str] | None = None
    ) -> Any:
        headers = {
            "Authorization": f"Bearer {self._token}",
            "Content-Type": "application/json",
            **(more or {}),
        }
        request = urllib.request.Request(f"{self._url}/api/v1/{path}", body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)


class Desk:
    def __init__(self, file: Path, portal: Portal) -> None:
        self._file, self._portal = file, portal
        self._lock = threading.RLock()
        known = json.loads(file.read_text()) if file.exists() else {}
        self.tickets: dict[str, Any] = known.get("tickets", {})
        self.events: list[str] = known.get("events", [])
        self.deliveries: list[str] = known.get("deliveries", [])
        self.repeated: int = known.get("repeated", 0)
        self.seen: int | None = known.get("seen")
        self.die_after_order = bool(os.environ.get("TICKETING_DIES_AFTER_ORDER"))

    def begin(self) -> None:
        """After a start: go on with what was begun, and catch up with what happened meanwhile."""
        if self.seen is None:
            self.seen = self._portal.get("events?limit=1")[1]["newest"]
            self._keep()
        for number, ticket in list(self.tickets.items()):
            if ticket["state"] == "ordering":
                self.order(number)
        self.catch_up()

    def open(self, number: str, wish: dict[str, Any]) -> dict[str, Any]:
        """`wish`: machine, wants (backup or restore), requested_for, reason. A restore is planned at once."""
        with self._lock:
            order = {
                "vm": {"name": wish["machine"]},
                "ticket": number,
                "requested_for": wish["requested_for"],
                "reason": wish["reason"],
            }
            ticket = {"state": "open", "wants": wish["wants"], "order": order, "notes": [], "answers": []}
            if wish["wants"] == "restore":
                order |= {"point": "latest", "name": f"{wish['machine']}-{number.lower()}"}
                status, plan = self._portal.post("restores/plan", order)
                if status != 200 or plan["blockers"]:
                    return {"state": "refused", "status": status, "answer": plan}
                order["plan_hash"] = plan["plan_hash"]
            self.tickets[number] = ticket
            self._keep()
            return ticket

    def approve(self, number: str) -> dict[str, Any]:
        """The order is written down, then sent."""
        with self._lock:
            self.tickets[number]["state"] = "ordering"
            self._keep()
        return self.order(number)

    def order(self, number: str) -> dict[str, Any]:
        """Send the order, as often as one likes: its key makes it one."""
        ticket = self.tickets[number]
        status, answer = self._portal.post(
            f"{ticket['wants']}s", ticket["order"], key=f"{number}-{ticket['wants']}"
        )
        if self.die_after_order:
            os._exit(9)
        with self._lock:
            ticket["answers"].append(status)
            if status == 202:
                ticket["job"] = (answer.get("job") or answer)["uuid"]
                if ticket["state"] == "ordering":
                    ticket["state"] = "ordered"
            else:
                ticket["state"], ticket["problem"] = "refused", answer
            self._keep()
        return ticket

    def delivered(self, delivery: str, event: dict[str, Any]) -> None:
        """A verified webhook request. One that was dealt with before changes nothing."""
        with self._lock:
            if delivery in self.deliveries:
                self.repeated += 1
            else:
                self.deliveries.append(delivery)
                self._take(event)
            self._keep()

    def catch_up(self) -> None:
        while True:
            status, answer = self._portal.get(f"events?after={self.seen}")
            if status != 200 or not answer["results"]:
                return
            with self._lock:
                for event in answer["results"]:
                    self._take(event)
                self.seen = answer["last"]
                self._keep()

    def _take(self, event: dict[str, Any]) -> None:
        if event["kind"] == "ping" or event["id"] in self.events:
            return
        self.events.append(event["id"])
        ticket = self.tickets.get((event.get("job") or {}).get("ticket", ""))
        if ticket is None:
            return
        ticket["notes"].append(event["kind"])
        if event["kind"] in ENDED:
            ticket["state"] = "closed"
            ticket["ending"] = event["kind"]
            ticket["result"] = event.get("result") or event.get("problem")

    def _keep(self) -> None:
        """Whole or not at all."""
        names = ("tickets", "events", "deliveries", "repeated", "seen")
        draft = self._file.with_suffix(".draft")
        draft.write_text(json.dumps({name: getattr(self, name) for name in names}))
        draft.replace(self._file)
