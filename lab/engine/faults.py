# SPDX-License-Identifier: GPL-3.0-or-later
"""What the engine answers when it will not do something."""

OPERATION_FAILED = "Operation Failed"


class EngineFault(Exception):
    """A refusal: HTTP status, reason and detail as they stand in `<fault>`."""

    def __init__(self, status: int, detail: str, reason: str = OPERATION_FAILED) -> None:
        super().__init__(f"{status} {reason}: {detail}")
        self.status = status
        self.reason = reason
        self.detail = detail


class EntityMissing(Exception):
    """The object named in the path does not exist: answered by 404 without a body."""


def refused(action: str, text: str, status: int = 409) -> EngineFault:
    """`[Cannot <action>. <text>]`, the usual form of a failed validation; 409 is a conflict, 400 a bad value."""
    return EngineFault(status, f"[Cannot {action}. {text}]")


def locked_disks(action: str, aliases: list[str]) -> EngineFault:
    names = ", ".join(sorted(aliases))
    text = f"The following disks are locked: {names}. Please try again in a few minutes."
    return EngineFault(409, f"[Cannot {action}: {text}]")


def disk_in_memory_lock(action: str) -> EngineFault:
    """A command holds the disk though its status is `ok` (ACTION_TYPE_FAILED_DISK_IS_LOCKED)."""
    return EngineFault(409, f"[Cannot {action}: Disk is locked. Please try again later.]")


def incomplete(kind: str, fields: str, method: str = "add") -> EngineFault:
    """A required element is missing, e.g. `Vm [name] required for add`."""
    return EngineFault(400, f"{kind} [{fields}] required for {method}", "Incomplete parameters")


def malformed(detail: str) -> EngineFault:
    """The request cannot be read. The wording of the detail is inferred."""
    return EngineFault(400, detail, "Request syntactically incorrect.")


def not_found_by(kind: str, key: str) -> EngineFault:
    """An object named in a body, but absent."""
    return EngineFault(404, f"Entity not found: {kind}: {key}", OPERATION_FAILED)
