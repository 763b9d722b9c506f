# SPDX-License-Identifier: GPL-3.0-or-later
"""A real gunicorn on the test database, as the supervisor starts it."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import connection

from tests.worker_support import database_url, wait_for


@dataclass
class Web:
    process: subprocess.Popen[bytes]
    port: int

    @classmethod
    def start(cls, log: Path, application: str = "portal.wsgi:application", threads: int = 8) -> "Web":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environment = {
            **os.environ,
            "DATABASE_URL": database_url(connection.settings_dict),
            "DJANGO_SETTINGS_MODULE": "tests.settings",
        }
        command = [sys.executable, "-m", "gunicorn", application, "--bind", f"127.0.0.1:{port}"]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, "--worker-class", "gthread", "--threads", str(threads), "--workers", "1"],
                env=environment,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
            )
        web = cls(process, port)
        web.wait()
        return web

    def wait(self) -> None:
        """Until it answers."""

        def answers() -> bool:
            try:
                return self.send("GET", "/alive/")[0] == 200
            except (OSError, http.client.HTTPException):
                return False

        wait_for(answers, what="the web process to answer")

    def send(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body. Raises OSError or HTTPException if no answer comes."""
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            link.request(
                method,
                path,
                json.dumps(body) if body is not None else None,
                {"Content-Type": "application/json", **named} if body is not None else named,
            )
            answer = link.getresponse()
            return answer.status, dict(answer.headers), answer.read()
        finally:
            link.close()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
