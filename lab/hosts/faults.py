# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the commands of a host ask whether a fault strikes them: a socket in its root (commands/common.py, passes)."""

import asyncio
import fnmatch
import json
import os
import socket
from pathlib import Path

from lab.control.book import Fault, FaultBook


class FaultLine:
    """Answers `{"command", "line"}` with KILL, TERM or nothing; a hold answers when the fault is removed."""

    def __init__(self, root: Path, book: FaultBook) -> None:
        self._folder = root / "run/lab"
        self._book = book
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        listener = socket.socket(socket.AF_UNIX)
        # A socket's path has room for some 100 bytes only; an open folder's name is short.
        folder = os.open(self._folder, os.O_PATH | os.O_DIRECTORY)
        try:
            listener.bind(f"/proc/self/fd/{folder}/control.sock")
        finally:
            os.close(folder)
        self._server = await asyncio.start_unix_server(self._serve, sock=listener)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked = json.loads(await reader.readline())
            answer = await self._answer(asked["command"], asked["line"])
            writer.write(f"{answer}\n".encode())
            await writer.drain()
        except (OSError, ValueError, KeyError):
            return
        finally:
            writer.close()

    async def _answer(self, command: str, line: str) -> str:
        def fits(fault: Fault) -> bool:
            return fault["command"] in (None, command) and fnmatch.fnmatchcase(line, fault["line"])

        fault = self._book.strike("host_command", fits)
        if fault is None:
            return ""
        if fault["how"] == "hold":
            await fault.gone.wait()
            return ""
        return "KILL" if fault["how"] == "kill" else "TERM"
