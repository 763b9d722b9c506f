# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes of test_audit_processes: `write NAME COUNT` records entries, `seal` seals until it is killed."""

import os
import sys
import time

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")


def write(name: str, count: int) -> None:
    from django.db import transaction

    from portal.audit import services as audit

    for number in range(count):
        with transaction.atomic():
            audit.record("x", actor=None, writer=name, number=number)
            # Now and then one takes its id early and commits late.
            if number % 7 == 0:
                time.sleep(0.02)


def seal() -> None:
    from portal.audit import sealing

    sealing.BATCH = 2
    print("sealing", flush=True)
    while True:
        sealing.seal_all()


if __name__ == "__main__":
    django.setup()
    if sys.argv[1] == "write":
        write(sys.argv[2], int(sys.argv[3]))
    else:
        seal()
