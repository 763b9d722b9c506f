# SPDX-License-Identifier: GPL-3.0-or-later
"""Time as the engine spends it: lag between the phases of a command, and how long records are kept."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

FIRST_POLL_SECONDS = 1.0
SLOWEST_POLL_SECONDS = 10.0
FAST_FACTOR = 0.02


class Clock:
    """`lag` scales every wait of the engine (1.0 = as a real one), `retention` how long records are kept."""

    def __init__(self, lag: float = 1.0, retention: float = 1.0) -> None:
        self.lag = lag
        self.retention = retention
        self.skew: Callable[[], float] = lambda: 0.0
        """Seconds by which the engine's clock is ahead of the machine's."""
        self._going = asyncio.Event()
        self._going.set()

    def stop(self) -> None:
        """Whoever spends engine time waits until `go`, as while the engine is not running."""
        self._going.clear()

    def go(self) -> None:
        self._going.set()

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.skew())

    async def pause(self, seconds: float) -> None:
        """Spend `seconds` of engine time."""
        await asyncio.sleep(seconds * self.lag)
        await self._going.wait()

    def poller(self) -> "Poller":
        return Poller(self)

    def older_than(self, moment: datetime | None, minutes: float) -> bool:
        """True when `moment` lies more than `minutes` of retention time back."""
        if moment is None:
            return False
        return (self.now() - moment).total_seconds() > minutes * 60 * self.retention


class Poller:
    """The engine looks at a running command after 1 s, then ever more rarely, at last every 10 s."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._delay = FIRST_POLL_SECONDS

    async def wait(self) -> None:
        await self._clock.pause(self._delay)
        self._delay = min(self._delay * 2, SLOWEST_POLL_SECONDS)


def parse_lag(text: str) -> float:
    """Read `--lag`: `real`, `fast` or a factor of at least 0. Raises ValueError."""
    factor = {"real": 1.0, "fast": FAST_FACTOR}.get(text)
    if factor is None:
        factor = float(text)
    if not 0 <= factor <= 100:
        raise ValueError(f"lag factor out of range: {text}")
    return factor
