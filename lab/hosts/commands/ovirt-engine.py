# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's process as its host sees it: `ovirt-engine.py PIDFILE`, until SIGTERM. The API itself is the lab's."""

import fcntl
import os
import signal
import sys
from pathlib import Path

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
up = Path(sys.argv[1])
draft = up.with_suffix(".new")
stream = draft.open("w")
stream.write(str(os.getpid()))
stream.flush()
# The API of the lab is up for as long as this lock is held (lab/hosts/link.py).
fcntl.flock(stream, fcntl.LOCK_EX)
draft.rename(up)
signal.sigwait([signal.SIGTERM])
up.unlink(missing_ok=True)
