# SPDX-License-Identifier: GPL-3.0-or-later
"""A process of its own, `POINT USER`: deletes that restore point. Says `begin` when its real work begins."""

import os
import sys

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

import django

django.setup()

from backups import services as backups  # noqa: E402
from backups.models import RestorePoint  # noqa: E402
from portal.accounts.models import User  # noqa: E402


def main() -> None:
    point = RestorePoint.objects.get(uuid=sys.argv[1])
    actor = User.objects.get(username=sys.argv[2])
    print("begin", flush=True)
    backups.delete_restore_point(actor=actor, point=point, reason="soak")


main()
