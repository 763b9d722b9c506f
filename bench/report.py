# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of medians, and the ratios that are judged."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

MIB = 1 << 20
KINDS = ("full", "incremental", "restore")
# What must be reached at least: ours divided by the peer's, dirty bytes read per dirty byte, MiB.
FLOOR = {"time_ratio": 1.25, "bytes_ratio": 0.4, "bytes_read_per_dirty_byte": 2.0, "peak_mib": 300}


@dataclass
class Runs:
    """Every measured run of one side of one kind."""

    side: str
    kind: str
    facts: list[dict[str, Any]] = field(default_factory=list)

    def median(self, name: str) -> float:
        return median(each[name] for each in self.facts)


def table(runs: Sequence[Runs]) -> str:
    head = (
        f"{'':24}{'seconds':>9}{'(least)':>9}{'MiB/s':>8}{'client CPU s':>14}{'server CPU s':>14}"
        f"{'stored MiB':>12}{'peak MiB':>10}"
    )
    return "\n".join([head, *(_row(each) for each in runs)])


def _row(runs: Runs) -> str:
    seconds = runs.median("seconds")
    stored = f"{runs.median('stored_bytes') / MIB:.0f}" if "stored_bytes" in runs.facts[0] else ""
    return (
        f"{runs.kind + ', ' + runs.side:24}{seconds:9.2f}{min(each['seconds'] for each in runs.facts):9.2f}"
        f"{runs.median('moved_bytes') / MIB / seconds:8.0f}{runs.median('cpu_seconds'):14.2f}"
        f"{runs.median('server_cpu_seconds'):14.2f}{stored:>12}{runs.median('peak_mib'):10.0f}"
    )


def ratios(runs: Sequence[Runs]) -> dict[str, Any]:
    """What the last line says."""
    by = {(each.side, each.kind): each for each in runs}

    def of(kind: str, name: str) -> float:
        return round(by["ours", kind].median(name) / by["peer", kind].median(name), 3)

    found: dict[str, Any] = {kind: {"time_ratio": of(kind, "seconds")} for kind in KINDS}
    found["full"]["bytes_ratio"] = of("full", "stored_bytes")
    ours = by["ours", "incremental"]
    found["incremental"]["bytes_read_per_dirty_byte"] = round(
        ours.median("bytes_read") / ours.median("dirty_bytes"), 3
    )
    peak = max(each["peak_mib"] for kind in KINDS for each in by["ours", kind].facts)
    return {**found, "peak_mib": round(peak)}


def missed(found: dict[str, Any]) -> list[str]:
    """What lies beyond the floor, in words."""
    flat = {("all", "peak_mib"): found["peak_mib"]}
    flat |= {(kind, name): value for kind in KINDS for name, value in found[kind].items()}
    return [
        f"{kind}: {name} is {value}, at most {FLOOR[name]} is allowed"
        for (kind, name), value in flat.items()
        if value > FLOOR[name]
    ]


def profile(facts: dict[str, Any], title: str) -> str:
    lines = [f"\n{title}: CPU and wall seconds of all threads, by line"]
    lines += [f"{cpu:8.2f}{wall:8.2f}  {place}" for place, cpu, wall in facts["profile"][:25]]
    return "\n".join(lines)
