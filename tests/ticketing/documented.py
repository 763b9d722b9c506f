# SPDX-License-Identifier: GPL-3.0-or-later
"""What docs/ tells integrators to do, taken from there as it is written."""

import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[2] / "docs"


def documented() -> dict[str, Any]:
    """The names that the Python example of docs/webhooks.md defines."""
    [code] = re.findall(r"```python\n(.*?)```", (DOCS / "webhooks.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    return names


def documented_commands() -> str:
    """All shell examples of docs/api.md, in their order, as one script."""
    return "\n".join(re.findall(r"```sh\n(.*?)```", (DOCS / "api.md").read_text(), re.DOTALL))
