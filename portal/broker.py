# SPDX-License-Identifier: GPL-3.0-or-later
"""Celery's folder-as-broker with two windows closed that made workers read half-written files.

kombu 5.7 creates message and exchange files under their final names and fills them afterwards; a worker that
looks in between meets an empty file, cannot parse it, and ends (ADR 0003).
"""

from __future__ import annotations

import json
import os
import time
import uuid
from pathlib import Path
from typing import Any

from kombu.exceptions import ChannelError
from kombu.transport import filesystem


class Channel(filesystem.Channel):
    """Files appear whole: written under a name that nobody looks for, then renamed."""

    def _put(self, queue: str, payload: dict[str, Any], **_: Any) -> None:  # type: ignore[override]
        folder = Path(self.data_folder_out)
        name = f"{time.monotonic_ns() // 1_000_000:015d}_{uuid.uuid4()}.{queue}.msg"
        draft = folder / f".{name}.draft"
        try:
            draft.write_text(json.dumps(payload))
            draft.rename(folder / name)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise ChannelError(f"The broker's folder does not take messages: {error}") from error

    def _queue_bind(
        self, exchange: str, routing_key: str | None, pattern: str | None, queue: str | None
    ) -> None:
        file: Path = self._exchange_file(exchange)  # type: ignore[attr-defined]
        if not file.exists():
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
