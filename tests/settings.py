# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of the test suite: private PostgreSQL and Redis, or the embedded default with PORTAL_TEST_EMBEDDED=1.

Parallel test processes share the two servers, each with a database and a Redis number of its own.
"""

import os
import tempfile
from pathlib import Path

from tests import private_services

PARALLEL = os.environ.get("PYTEST_XDIST_WORKER", "")
if "PORTAL_TEST_DIR" not in os.environ:
    os.environ["PORTAL_TEST_DIR"] = tempfile.mkdtemp(prefix="portal-tests-")
    private_services.remove_at_exit(Path(os.environ["PORTAL_TEST_DIR"]))
    if os.environ.get("PORTAL_TEST_EMBEDDED") != "1":
        private_services.start(Path(os.environ["PORTAL_TEST_DIR"]))
if not os.environ.get("PORTAL_DATA_DIR", "").endswith(f"data{PARALLEL}"):
    os.environ["PORTAL_DATA_DIR"] = str(Path(os.environ["PORTAL_TEST_DIR"]) / f"data{PARALLEL}")
    if PARALLEL and "REDIS_URL" in os.environ:
        number = int(PARALLEL.removeprefix("gw")) + 1
        os.environ["REDIS_URL"] = f"{os.environ['REDIS_URL'].rpartition('/')[0]}/{number}"
os.environ.setdefault("PORTAL_JOB_HEARTBEAT", "1")
os.environ.setdefault("PORTAL_JOB_LEASE", "4")
os.environ.setdefault("PORTAL_JOB_RING_AFTER", "1")
os.environ.setdefault("PORTAL_JOB_BACKOFF", "1")
os.environ.setdefault("PORTAL_INVENTORY_EVERY", "600")
os.environ.setdefault("PORTAL_MANAGER_PHASE_TIMEOUT", "120")
os.environ.setdefault("PORTAL_MANAGER_PATIENCE", "2")
os.environ.setdefault("PORTAL_MANAGER_BUSY_TIMEOUT", "8")
os.environ.setdefault("PORTAL_LEFTOVERS_EVERY", "3600")

from portal.settings import *  # noqa: E402, F403
from portal.settings import DATA_DIR, DATABASES  # noqa: E402

DATABASES["default"]["CONN_MAX_AGE"] = 0  # a kept connection would be in the way when the database is dropped
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["TEST"] = {"NAME": str(DATA_DIR / "test.sqlite3")}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
