# SPDX-License-Identifier: GPL-3.0-or-later
"""The audit log that `/events` shows."""

from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime

from lab.engine.clock import Clock

correlation_id: ContextVar[str | None] = ContextVar("correlation_id", default=None)
"""The correlation id of the request that is being served; tasks started by it inherit the value."""

FIRST_INDEX = 100
KEPT_EVENTS = 20_000


@dataclass(frozen=True)
class Event:
    """`index` grows by one with each event and is also the event's id."""

    index: int
    code: int
    severity: str
    time: datetime
    description: str
    correlation_id: str | None = None
    origin: str = "oVirt"
    custom_id: int | None = None
    vm_id: str | None = None
    host_id: str | None = None
    storage_domain_id: str | None = None
    cluster_id: str | None = None
    data_center_id: str | None = None
    user_id: str | None = None


class EventLog:
    """Appends events; `user_name` is how they name the person behind a request."""

    def __init__(self, clock: Clock, user_name: str, user_id: str) -> None:
        self._clock = clock
        self.user_name = user_name
        self.user_id = user_id
        self._events: list[Event] = []
        self._next = FIRST_INDEX

    def add(
        self,
        code: int,
        description: str,
        severity: str = "normal",
        *,
        origin: str = "oVirt",
        custom_id: int | None = None,
        vm_id: str | None = None,
        host_id: str | None = None,
        storage_domain_id: str | None = None,
        cluster_id: str | None = None,
        data_center_id: str | None = None,
    ) -> Event:
        event = Event(
            index=self._next,
            code=code,
            severity=severity,
            time=self._clock.now(),
            description=description,
            correlation_id=correlation_id.get(),
            origin=origin,
            custom_id=custom_id,
            vm_id=vm_id,
            host_id=host_id,
            storage_domain_id=storage_domain_id,
            cluster_id=cluster_id,
            data_center_id=data_center_id,
            user_id=self.user_id,
        )
        self._next += 1
        self._events.append(event)
        del self._events[:-KEPT_EVENTS]
        return event

    def newest_first(self) -> list[Event]:
        return self._events[::-1]

    def get(self, index: int) -> Event | None:
        return next((event for event in self._events if event.index == index), None)
