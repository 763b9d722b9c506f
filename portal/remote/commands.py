# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place that builds command lines for remote machines."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from portal.errors import PortalError

# Manager host reference, trap 13: the tools' messages are matched in English.
LOCALE = "LC_ALL=C.UTF-8"


class CommandRefused(PortalError):
    """A command line that would not mean there what it says here."""


def line(argv: Sequence[str], *, sudo: bool = False) -> str:
    """One shell line that runs exactly `argv` in the locale C.UTF-8, by `sudo -n` if wanted. Raises CommandRefused.

    Empty arguments are refused: engine-backup stops reading its options at one, without a word (reference 1.1)."""
    if not argv:
        raise CommandRefused("There is no command.", hint="Nothing was run.")
    for argument in argv:
        if not argument or "\0" in argument:
            raise CommandRefused(
                f"{argv[0]} was not run: one of its arguments is empty or holds a NUL character.",
                hint="Fill in every value, or leave its option out.",
            )
    prefix = ["sudo", "-n", LOCALE] if sudo else ["env", LOCALE]
    return shlex.join([*prefix, *argv])


def script(text: str, *arguments: str, sudo: bool = False) -> str:
    """A line that runs a shell script; `arguments` are its $1, $2 …, of which none may be empty."""
    return line(["/bin/sh", "-c", text, "portal", *arguments], sudo=sudo)
