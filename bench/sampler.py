# SPDX-License-Identifier: GPL-3.0-or-later
"""Where threads spend CPU time and wall time, by the line they are at; calls into C count for the line that calls."""

import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from types import FrameType

EVERY_SECONDS = 0.003


class Sampler:
    """Looks at all threads every few milliseconds until `stop`."""

    def __init__(self) -> None:
        self._cpu: defaultdict[str, float] = defaultdict(float)
        self._wall: defaultdict[str, float] = defaultdict(float)
        self._clocks = {
            thread.native_id or 0: _cpu_seconds(thread.native_id) or 0.0 for thread in threading.enumerate()
        }
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
        self._thread.start()

    def stop(self) -> list[tuple[str, float, float]]:
        """(place, CPU seconds, seconds of all threads), the most CPU first."""
        self._ended.set()
        self._thread.join()
        most = sorted(self._cpu.items(), key=lambda each: -each[1])
        return [(place, seconds, self._wall[place]) for place, seconds in most]

    def _run(self) -> None:
        last = time.monotonic()
        while not self._ended.wait(EVERY_SECONDS):
            now = time.monotonic()
            frames = sys._current_frames()
            for thread in threading.enumerate():
                frame = frames.get(thread.ident or 0)
                cpu = _cpu_seconds(thread.native_id)
                if frame is None or cpu is None or thread is self._thread:
                    continue
                place = _place(frame)
                self._cpu[place] += cpu - self._clocks.get(thread.native_id or 0, 0.0)
                self._wall[place] += now - last
                self._clocks[thread.native_id or 0] = cpu
            last = now


def _cpu_seconds(native_id: int | None) -> float | None:
    try:
        return int(Path(f"/proc/self/task/{native_id}/schedstat").read_text().split()[0]) / 1e9
    except (OSError, IndexError):
        return None


def _place(frame: FrameType) -> str:
    name = Path(frame.f_code.co_filename)
    return f"{name.parent.name}/{name.name}:{frame.f_lineno} {frame.f_code.co_name}"
