# SPDX-License-Identifier: GPL-3.0-or-later
"""Which request is meant: patterns of paths."""

import re
from functools import lru_cache
from urllib.parse import unquote

from aiohttp import web

from lab.api.xmlio import API

VERSION = re.compile(r"/v\d+(?=[/;]|$)")
MATRIX = re.compile(r";[^/]*")


def api_path(request: web.Request) -> str:
    """Below the API's root, without version and matrix parameters; the whole path for anything else."""
    path = unquote(request.rel_url.raw_path)
    if not path.startswith(API):
        return path
    below = MATRIX.sub("", VERSION.sub("", path.removeprefix(API), count=1))
    return below or "/"


def matches(pattern: str, path: str) -> bool:
    """`*` stands for one part of the path, `**` for any number of them."""
    return bool(_pattern(pattern).fullmatch(path))


@lru_cache
def _pattern(path: str) -> re.Pattern[str]:
    parts = [
        "(/[^/]+)*" if part == "**" else "/" + re.escape(part).replace(r"\*", "[^/]*")
        for part in path.strip("/").split("/")
    ]
    return re.compile("".join(parts) + "/?")
