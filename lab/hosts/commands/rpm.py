# SPDX-License-Identifier: GPL-3.0-or-later
"""rpm -q and -qa of a lab host (reference section 5); the exit code is the number of packages that are missing."""

import sys

from lab.hosts.commands.common import fail, packages

ARCH = "noarch"


def main() -> int:
    names, form, everything, query = [], "", False, False
    arguments = iter(sys.argv[1:])
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name in ("--qf", "--queryformat"):
            form = value if equals else next(arguments, "")
        elif argument in ("-q", "--query", "-qa"):
            query, everything = True, everything or argument == "-qa"
        elif argument in ("-a", "--all"):
            everything = True
        elif argument.startswith("-"):
            return fail(f"rpm: {argument}: unknown option")
        else:
            names.append(argument)
    if not query:
        return fail("rpm: only queries are possible here")
    installed = packages()
    missing = 0
    for name in names or (sorted(installed) if everything else []):
        if name not in installed:
            print(f"package {name} is not installed")
            missing += 1
            continue
        version, release = installed[name]
        told = form or "%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}\\n"
        values = {"NAME": name, "VERSION": version, "RELEASE": release, "ARCH": ARCH, "EPOCH": "(none)"}
        for key, text in values.items():
            told = told.replace(f"%{{{key}}}", text).replace(f"%{{{key.lower()}}}", text)
        print(told.replace("\\n", "\n").replace("\\t", "\t"), end="")
    return missing


if __name__ == "__main__":
    sys.exit(main())
