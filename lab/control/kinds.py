# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of faults and their fields."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lab.control.permits import PERMITS
from lab.control.schema import ControlError, Field, Schema

COMMON: Schema = {
    "times": Field(int, "how often it strikes; not given: whenever it can", minimum=1),
    "after": Field(int, "how many fitting occasions it lets pass first", 0),
}


def _anything(values: Mapping[str, Any]) -> None:
    """No rule beyond the fields' own."""


@dataclass(frozen=True)
class Kind:
    meaning: str
    fields: Schema
    check: Callable[[Mapping[str, Any]], None] = _anything

    def told(self) -> dict[str, Any]:
        fields = {name: field.told() for name, field in {**self.fields, **COMMON}.items()}
        return {"meaning": self.meaning, "fields": fields}


def _check_answer(values: Mapping[str, Any]) -> None:
    if values["how"] == "error" and values["status"] is None:
        raise ControlError("An answer that is an error needs its status, e.g. 500.")
    if values["status"] is not None and not 400 <= values["status"] <= 599:
        raise ControlError(f"The status of an error lies between 400 and 599, not {values['status']}.")


# What has phases, and which of them can be held or fail. `READY` and `transferring` are asked at each of the engine's
# polls, the others once, when they begin.
PHASES: dict[str, tuple[str, ...]] = {
    "backup": (
        "CREATING_SCRATCH_DISKS",
        "ADDING_BITMAPS",
        "WAITING_FOR_BITMAPS",
        "STARTING",
        "READY",
        "FINALIZING",
        "REMOVING_SNAPSHOT",
    ),
    "transfer": ("initializing", "transferring", "resuming", "finalizing_success"),
    "disk": ("creation", "removal"),
    "vm": ("creation", "start"),
    "checkpoint": ("removal",),
    "snapshot": ("creation", "merge"),
}


def _check_phase(values: Mapping[str, Any]) -> None:
    known = PHASES[values["of"]]
    if values["phase"] not in known:
        raise ControlError(f"A {values['of']} has no phase {values['phase']!r}; it has {', '.join(known)}.")


def _check_connection(values: Mapping[str, Any]) -> None:
    how = values["how"]
    if how == "slow" and not values["rate"]:
        raise ControlError("A slow connection needs its rate, in bytes a second.")
    if how in ("refuse", "blackhole") and (values["times"] is not None or values["after"]):
        raise ControlError("A closed port cannot count who knocks: it takes neither times nor after.")


KINDS: dict[str, Kind] = {
    "host_ssh": Kind(
        "SSH to the Manager's machine breaks (lab --hosts). An occasion is a command that begins, or an SFTP session; "
        "of `refuse` a connection.",
        {
            "how": Field(
                str,
                "drop: the connection is cut after `bytes` of output (of SFTP: bytes read); garbage: the command is "
                "not run, random bytes and exit 0 are its answer; refuse: cut before the greeting",
                required=True,
                choices=("drop", "garbage", "refuse"),
            ),
            "command": Field(str, "pattern of the command line, `sftp` for SFTP", "*"),
            "bytes": Field(int, "of output that get through", 0),
        },
    ),
    "host_command": Kind(
        "A tool of the Manager's machine is struck as it prints a line (lab --hosts). An occasion is such a line.",
        {
            "command": Field(str, "engine-backup, engine-setup or engine-cleanup; any if not given"),
            "line": Field(str, "pattern of the line, without otopi's mark", "*"),
            "how": Field(
                str,
                "kill: SIGKILL; term: SIGTERM; hold: it stands still until the fault is removed",
                "kill",
                ("kill", "term", "hold"),
            ),
        },
    ),
    "connection": Kind(
        "Connections for image data break, stall, crawl or do not come about. Strikes what leads through the layer in "
        "front of imageio: transfers that begin after the first such fault, or after the action watch_connections. "
        "An occasion is a connection.",
        {
            "how": Field(
                str,
                "drop: reset after `bytes`; stall: nothing moves after `bytes`, until the fault is removed; slow: at "
                "`rate`; refuse: the port is closed; blackhole: nobody answers, as behind a firewall",
                required=True,
                choices=("drop", "stall", "slow", "refuse", "blackhole"),
            ),
            "service": Field(str, "whose port", "host", ("host", "proxy", "both")),
            "bytes": Field(
                int, "of the TCP stream (with TLS), from the beginning or from when it is laid", 0
            ),
            "rate": Field(int, "bytes a second", minimum=1),
            "direction": Field(str, "down: to the client; up: from it", "down", ("down", "up", "both")),
        },
        _check_connection,
    ),
    "disk_full": Kind(
        "The storage is full while a disk is uploaded to: imageio passes QEMU's ENOSPC on. Strikes uploads (raw "
        "transfers to qcow2 disks) that begin from now on.",
        {
            "disk": Field(str, "only this one, by id or alias"),
            "bytes": Field(int, "by which the disk's file may still grow", 0),
        },
    ),
    "scratch_full": Kind(
        "The scratch disk of a live backup fills up while the guest writes. Strikes backups that begin from now on.",
        {
            "disk": Field(str, "only the scratch disk of this one, by id or alias"),
            "bytes": Field(int, "by which the scratch disk may grow", 0),
        },
    ),
    "forget": Kind(
        "A record is dropped as soon as its backup or transfer is over, as engines before 4.4.7 did: 404 from then on.",
        {
            "of": Field(str, "whose record", required=True, choices=("backup", "transfer")),
            "which": Field(str, "only this one, by id"),
        },
    ),
    "hidden": Kind(
        "The account may not see it: lists lack it without a word (200), itself and what is below it answer 404.",
        {
            "path": Field(str, "of the collection, * for one part", "/vms"),
            "which": Field(str, "only this member, by id; by default all"),
        },
    ),
    "forbidden": Kind(
        "The account lacks a permit: what needs it answers 403.",
        {
            "permit": Field(str, "its name", required=True, choices=tuple(PERMITS)),
            "on": Field(
                str,
                "everything: the permit is missing wherever it is asked for; system: on the system alone, which is "
                "what ending a transfer asks for (CREATE_DISK)",
                "everything",
                ("everything", "system"),
            ),
        },
    ),
    "clock": Kind(
        "The Manager's clock is wrong: Date, <time>, creation dates, times of events. Several add up.",
        {"seconds": Field(float, "ahead; behind if negative", required=True, minimum=None)},
    ),
    "domain_full": Kind(
        "A storage domain has no space left: new disks and live backups are refused.",
        {"domain": Field(str, "its id or name; by default every domain")},
    ),
    "phase": Kind(
        "The engine's work on something stands still in a phase, or fails there as the real engine's does.",
        {
            "of": Field(str, "what has the phase", required=True, choices=tuple(PHASES)),
            "phase": Field(
                str, "; ".join(f"{of}: {', '.join(p)}" for of, p in PHASES.items()), required=True
            ),
            "how": Field(str, "hold: until the fault is removed, or `seconds`", "hold", ("hold", "fail")),
            "which": Field(str, "only this one: its id, its disk's id or alias, its VM's id or name"),
            "seconds": Field(float, "the longest time of a hold"),
        },
        _check_phase,
    ),
    "answer": Kind(
        "The Manager's API answers wrongly, late or not at all.",
        {
            "method": Field(str, "GET, POST …, * for any", "*"),
            "path": Field(
                str,
                "path below the API's root, * for one part, ** for the rest; "
                "one that begins with /ovirt-engine/ is matched from the server's root (sign-on)",
                "/**",
            ),
            "how": Field(
                str,
                "error: not carried out, answered by status; cut: not carried out, connection cut; "
                "lost: carried out, then the connection is cut without an answer; "
                "slow: carried out, answered late; truncated: the answer ends in its middle; "
                "garbage: the body is not XML",
                "error",
                ("error", "cut", "lost", "slow", "truncated", "garbage"),
            ),
            "status": Field(int, "of an error; 401 also ends the session, 404 has no body", minimum=None),
            "detail": Field(str, "of an error's <fault>; by default the engine's own for that status"),
            "reason": Field(str, "of an error's <fault>", "Operation Failed"),
            "shape": Field(
                str,
                "of an error: xml as the engine, html as the web server in front of it",
                "xml",
                ("xml", "html"),
            ),
            "seconds": Field(float, "wait before the answer; slow without it: until the fault is removed"),
        },
        _check_answer,
    ),
}
