# SPDX-License-Identifier: GPL-3.0-or-later
"""sudo of a lab host: everybody who signs in here may become root without a password (`-n` asks for none)."""

import os
import sys

from lab.hosts.commands.common import fail
from lab.hosts.commands.su import HOMES, become


def main() -> int:
    arguments, user = sys.argv[1:], "root"
    while arguments and arguments[0].startswith("-"):
        option = arguments.pop(0)
        if option == "--":
            break
        if option in ("-u", "--user"):
            user = arguments.pop(0) if arguments else ""
        elif option not in ("-n", "--non-interactive", "-H", "-S", "-E"):
            return fail(f"sudo: invalid option {option}")
    while arguments and "=" in arguments[0] and not arguments[0].startswith("/"):
        name, _, value = arguments.pop(0).partition("=")
        os.environ[name] = value
    if user not in HOMES:
        return fail(f"sudo: unknown user {user}")
    if not arguments:
        return fail("usage: sudo [-n] [-u user] command")
    try:
        become(user, arguments, login=False)
    except FileNotFoundError:
        return fail(f"sudo: {arguments[0]}: command not found")
    return 1


if __name__ == "__main__":
    sys.exit(main())
