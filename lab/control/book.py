# SPDX-License-Identifier: GPL-3.0-or-later
"""The faults that lie in wait, and the question every place that can fail asks: is it my turn?"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from lab.control.kinds import COMMON, KINDS
from lab.control.schema import ControlError, read

Listener = Callable[["Fault"], None]


@dataclass(eq=False)
class Fault:
    """One fault. It lets `after` occasions pass, strikes `times` (None: each time), and ends when it is removed."""

    id: str
    kind: str
    values: Mapping[str, Any]
    times: int | None
    after: int
    seen: int = 0
    struck: int = 0
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    @property
    def spent(self) -> bool:
        return self.times is not None and self.struck >= self.times

    async def removed(self) -> None:
        """Wait until the fault is removed, at most its `seconds`."""
        try:
            await asyncio.wait_for(self.gone.wait(), self["seconds"])
        except TimeoutError:
            return

    def told(self) -> dict[str, Any]:
        given = {name: value for name, value in self.values.items() if value is not None}
        return {
            "id": self.id,
            "fault": self.kind,
            **given,
            "times": self.times,
            "after": self.after,
            "seen": self.seen,
            "struck": self.struck,
        }


class FaultBook:
    """All faults, oldest first. `on_change` is called with each one that was added or removed."""

    def __init__(self) -> None:
        self._faults: dict[str, Fault] = {}
        self._numbers = count(1)
        self.on_change: list[Listener] = []

    def add(self, given: Mapping[str, Any]) -> Fault:
        """`given` names its `fault` and the fields of that kind. Raises ControlError."""
        wanted = dict(given)
        kind = wanted.pop("fault", None)
        if kind not in KINDS:
            raise ControlError(f"There is no fault {kind!r}; there are {', '.join(sorted(KINDS))}.")
        values = read(f"the fault {kind}", {**KINDS[kind].fields, **COMMON}, wanted)
        KINDS[kind].check(values)
        times, after = values.pop("times"), values.pop("after")
        fault = Fault(str(next(self._numbers)), kind, values, times, after)
        self._faults[fault.id] = fault
        self._tell(fault)
        return fault

    def get(self, fault_id: str) -> Fault:
        """Raises ControlError (404)."""
        try:
            return self._faults[fault_id]
        except KeyError:
            known = ", ".join(self._faults) or "none"
            raise ControlError(f"There is no fault {fault_id!r}; now there are: {known}.", 404) from None

    def all(self) -> list[Fault]:
        return list(self._faults.values())

    def remove(self, fault_id: str) -> Fault:
        """What the fault holds goes on. Raises ControlError (404)."""
        fault = self.get(fault_id)
        del self._faults[fault_id]
        fault.gone.set()
        self._tell(fault)
        return fault

    def _tell(self, fault: Fault) -> None:
        for listener in self.on_change:
            listener(fault)

    def waiting(self, kind: str) -> list[Fault]:
        """The faults of a kind that may still strike."""
        return [fault for fault in self._faults.values() if fault.kind == kind and not fault.spent]

    def strike(self, kind: str, fits: Callable[[Fault], bool] = lambda fault: True) -> Fault | None:
        """Here is an occasion: the first fault that fits and whose turn it is, counted as having struck."""
        for fault in self.waiting(kind):
            if fits(fault) and self.turn(fault):
                return fault
        return None

    def turn(self, fault: Fault) -> bool:
        """Count one occasion of a fault: does it strike?"""
        fault.seen += 1
        strikes = fault.seen > fault.after and not fault.spent
        fault.struck += strikes
        return strikes

    async def at(self, of: str, phase: str, fail: Exception, *names: str | None) -> None:
        """The engine enters a phase of something with these ids and names: stay here while a fault holds it.

        Raises `fail` if a fault wants that."""

        def fits(fault: Fault) -> bool:
            here = (fault["of"], fault["phase"]) == (of, phase)
            return here and (fault["which"] is None or fault["which"] in names)

        fault = self.strike("phase", fits)
        if fault is None:
            return
        if fault["how"] == "fail":
            raise fail
        await fault.removed()

    def room(self, kind: str, *names: str) -> int | None:
        """The bytes left for something with these names, if a fault of this kind makes its storage full."""
        fault = self.strike(kind, lambda fault: fault["disk"] is None or fault["disk"] in names)
        return None if fault is None else int(fault["bytes"])

    def sum(self, kind: str, name: str) -> float:
        """Of a number of all faults of a kind; one that was asked for it has struck."""
        found = self.waiting(kind)
        for fault in found:
            fault.seen = fault.struck = 1
        return sum((fault[name] for fault in found), 0.0)

    def fills(self, *names: str, count: bool = True) -> bool:
        """Has a fault filled the storage domain with these names? An occasion, if `count`."""

        def fits(fault: Fault) -> bool:
            return fault["domain"] is None or fault["domain"] in names

        if not count:
            return any(fits(fault) for fault in self.waiting("domain_full"))
        return self.strike("domain_full", fits) is not None

    def forgets(self, of: str, record_id: str) -> bool:
        """Is the record of this backup or transfer, which is over, to be dropped at once?"""

        def fits(fault: Fault) -> bool:
            return fault["of"] == of and fault["which"] in (None, record_id)

        return self.strike("forget", fits) is not None
