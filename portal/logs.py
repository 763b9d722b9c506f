# SPDX-License-Identifier: GPL-3.0-or-later
"""Log lines carry the id of the request or job they belong to."""

from __future__ import annotations

import logging
from contextvars import ContextVar

request_id: ContextVar[str] = ContextVar("request_id", default="")
# Of the request under way: where it came from, as the audit history shows it.
address: ContextVar[str] = ContextVar("address", default="")
job_id: ContextVar[str] = ContextVar("job_id", default="")


class ContextFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get() or ("" if job_id.get() else "-")
        record.job_id = f"job {job_id.get()}" if job_id.get() else ""
        return True
