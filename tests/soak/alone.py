# SPDX-License-Identifier: GPL-3.0-or-later
"""A process of its own: `collect REPOSITORY` or `delete POINT USER`. Says `begin` when its real work begins."""

import os
import sys

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

import django

django.setup()

from django.core.management import call_command  # noqa: E402

from backups import services as backups  # noqa: E402
from backups.models import RestorePoint  # noqa: E402
from portal.accounts.models import User  # noqa: E402


def main() -> None:
    what, *arguments = sys.argv[1:]
    print("begin", flush=True)
    if what == "collect":
        call_command("collect_garbage", "--repository", arguments[0], "--grace-days", "0")
    else:
        point = RestorePoint.objects.get(uuid=arguments[0])
        actor = User.objects.get(username=arguments[1])
        backups.delete_restore_point(actor=actor, point=point, reason="soak")


main()
