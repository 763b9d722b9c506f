# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m tests.ticketing --portal URL --port N --folder DIR`: DIR holds the files token and secret, and the tickets."""

import argparse
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.ticketing.desk import Desk, Portal
from tests.ticketing.documented import documented


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--portal", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    desk = Desk(
        options.folder / "tickets.json",
        Portal(options.portal, (options.folder / "token").read_text().strip()),
    )
    desk.begin()
    secret = (options.folder / "secret").read_text().strip()
    ThreadingHTTPServer(("127.0.0.1", options.port), handler_of(desk, secret)).serve_forever()


def handler_of(desk: Desk, secret: str) -> type[BaseHTTPRequestHandler]:
    verified = documented()["verified"]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/":
                self._say(
                    200, {"deliveries": len(desk.deliveries), "repeated": desk.repeated, "seen": desk.seen}
                )
            else:
                self._say(200, desk.tickets[self.path.removeprefix("/tickets/")])

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            match self.path.strip("/").split("/"):
                case ["hook"]:
                    self._hook(body)
                case ["tickets", number]:
                    self._say(200, desk.open(number, json.loads(body)))
                case ["tickets", number, "approve"]:
                    self._say(200, desk.approve(number))
                case ["tickets", number, "order"]:
                    self._say(200, desk.order(number))
                case _:
                    self._say(404, {})

        def _hook(self, body: bytes) -> None:
            if not verified(secret, self.headers, body):
                self._say(401, {"verified": False})
                return
            desk.delivered(self.headers["X-Portal-Delivery"], json.loads(body))
            self._say(200, {"verified": True})

        def _say(self, status: int, answer: Any) -> None:
            raw = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


if __name__ == "__main__":
    main()
