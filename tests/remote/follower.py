# SPDX-License-Identifier: GPL-3.0-or-later
"""Follow a command until killed: `python follower.py ADDRESS.json ID FILE` appends its output to FILE."""

import asyncio
import json
import sys
import uuid
from pathlib import Path

from portal.remote import detached
from portal.remote.connection import HostAddress


async def main() -> None:
    host = HostAddress(**json.loads(Path(sys.argv[1]).read_text()))
    with Path(sys.argv[3]).open("ab", buffering=0) as kept:
        async for progress in detached.follow(host, uuid.UUID(sys.argv[2]), kept.tell()):
            kept.write(progress.output)
    print(progress.state, progress.code)


asyncio.run(main())
