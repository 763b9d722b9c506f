# SPDX-License-Identifier: GPL-3.0-or-later
"""Celery's folder-as-broker with three windows closed that made workers read half-written files.

kombu 5.7 creates message and exchange files under their final names and fills them afterwards; a worker that
looks in between meets an empty file, cannot parse it, and ends (ADR 0003). It also takes a message by moving it
to the system's folder for temporary files, which is a copy, and so no claim, if that is another file system.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.exceptions import ChannelError
from kombu.transport import filesystem


class Channel(filesystem.Channel):
    """Files appear whole: written under a name that nobody looks for, then renamed."""

    def _put(self, queue: str, payload: dict[str, Any], **_: Any) -> None:  # type: ignore[override]
        folder = Path(self.data_folder_out)
        name = f"{time.monotonic_ns():020d}_{uuid.uuid4()}.{queue}.msg"
        draft = folder / f".{name}.draft"
        try:
            draft.write_text(json.dumps(payload))
            draft.rename(folder / name)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise ChannelError(f"The broker's folder does not take messages: {error}") from error

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        """The oldest message of the queue, taken by renaming it: of several consumers one succeeds."""
        folder = Path(self.data_folder_in)
        for name in sorted(path.name for path in folder.iterdir()):
            if name.partition(".")[2] != f"{queue}.msg":
                continue
            taken = folder / f".{name}.taken"
            try:
                (folder / name).rename(taken)
                text = taken.read_text()
                taken.unlink()
            except FileNotFoundError:
                continue  # another consumer was faster
            except OSError as error:
                raise ChannelError(f"A message in the broker's folder cannot be read: {error}") from error
            return json.loads(text)
        raise Empty

    def _queue_bind(
        self, exchange: str, routing_key: str | None, pattern: str | None, queue: str | None
    ) -> None:
        file: Path = self._exchange_file(exchange)  # type: ignore[attr-defined]
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            draft = file.with_name(f".{file.name}.{uuid.uuid4()}")
            draft.write_text("[]")
            try:
                os.link(draft, file)
            except FileExistsError:
                pass
            finally:
                draft.unlink()
        super()._queue_bind(exchange, routing_key or "", pattern or "", queue or "")


class Transport(filesystem.Transport):
    Channel = Channel
