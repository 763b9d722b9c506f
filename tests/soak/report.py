# SPDX-License-Identifier: GPL-3.0-or-later
"""What `make soak` found, for its last line. Imports nothing, so that it can be read before Django is set up."""

from typing import Any

found: dict[str, Any] = {}
