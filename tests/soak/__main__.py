# SPDX-License-Identifier: GPL-3.0-or-later
"""`make soak`: every test marked slow, the kills among them; one JSON object as the last line.

KILLS and SEED in the environment say how many and which; further arguments go to pytest.
"""

import json
import sys
import time

import pytest

from tests.soak import report


def main() -> int:
    began = time.monotonic()
    code = pytest.main(["-q", "-m", "slow and not judges", "-p", "no:cacheprovider", *sys.argv[1:]])
    found = {**report.found, "exit_code": int(code), "seconds": round(time.monotonic() - began)}
    print(json.dumps(found), flush=True)
    return int(code)


sys.exit(main())
