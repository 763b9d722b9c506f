# SPDX-License-Identifier: GPL-3.0-or-later
"""su of a lab host: to root or to postgres, `-c COMMAND` in a login shell or not, and sudo's way of asking for it."""

import os
import sys

from lab.hosts.commands.common import fail
from lab.hosts.commands.postgres import AS_POSTGRES

HOMES = {"root": "/root", "postgres": "/var/lib/pgsql"}


def main() -> int:
    user, command, login = "root", "", False
    words = []
    arguments = iter(sys.argv[1:])
    for argument in arguments:
        if argument in ("-c", "--command"):
            command = next(arguments, "")
        elif argument.startswith("--command="):
            command = argument.partition("=")[2]
        elif argument in ("-", "-l", "--login"):
            login = True
        elif not argument.startswith("-"):
            words.append(argument)
    user = words[0] if words else "root"
    if user not in HOMES:
        return fail(
            f"su: user {user} does not exist or the user entry does not contain all the required fields"
        )
    if not command:
        return fail("su: a command is needed here: -c COMMAND")
    become(user, ["/bin/bash", *(["-l"] if login else []), "-c", command], login=login)
    return 127


def become(user: str, argv: list[str], *, login: bool) -> None:
    """Replace this process by the command as that user."""
    os.environ.update(HOME=HOMES[user], USER=user, LOGNAME=user)
    if login:
        os.chdir(HOMES[user])
    prefix = list(AS_POSTGRES) if user == "postgres" else []
    os.execvp((prefix + argv)[0], prefix + argv)


if __name__ == "__main__":
    sys.exit(main())
