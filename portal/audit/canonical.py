# SPDX-License-Identifier: GPL-3.0-or-later
"""The one way to write an entry down as bytes, so that anybody can compute its digest again (docs/audit.md).

RFC 8785 (JSON Canonicalization Scheme), of which only a part is ever needed: strings, whole numbers that any
JSON reader keeps, true, false, null, lists and objects. What else code may hand over (fractions, moments, paths,
lone surrogates, NUL, things too large) is made into that part before it is stored, so what is hashed is what the
database holds.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Mapping
from typing import Any

VERSION = 1
# Beyond it a JSON reader may round (RFC 7493, section 2.2).
MAX_INTEGER = (1 << 53) - 1
MAX_DEPTH = 20
# Of one entry's data. Larger ones are replaced by their digest, so that one entry always fits into memory.
MAX_DATA_BYTES = 256 << 10
_REPLACEMENT = "\ufffd"


class NotCanonical(ValueError):
    """A value that this portal never stores: somebody else wrote it."""


def canonical(value: Any) -> bytes:
    """RFC 8785 bytes of a value made of str, int, bool, None, list and dict. Raises NotCanonical for anything else."""
    return _text(value, 0).encode()


def digest(value: Any) -> str:
    """SHA-256 of the canonical bytes, in hex."""
    return hashlib.sha256(canonical(value)).hexdigest()


def moment(at: dt.datetime) -> str:
    """UTC with six digits of a second, always: 2026-11-23T05:14:35.000120Z."""
    return at.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def storable(data: Mapping[str, Any]) -> dict[str, Any]:
    """`data` as both databases store it and `canonical` takes it. Nothing is refused: history must be written."""
    cleaned: dict[str, Any] = _storable(data, 0)
    size = len(encoded := canonical(cleaned))
    if size <= MAX_DATA_BYTES:
        return cleaned
    return {"left_out": "too large", "bytes": size, "sha256": hashlib.sha256(encoded).hexdigest()}


def plain_text(text: str) -> str:
    """Without NUL and lone surrogates, which PostgreSQL cannot store; each becomes U+FFFD."""
    return text.replace("\0", _REPLACEMENT).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _storable(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return plain_text(value)
    if isinstance(value, int):
        return int(value) if abs(value) <= MAX_INTEGER else str(value)
    if isinstance(value, dt.datetime):
        return moment(value) if value.tzinfo else value.isoformat()
    if depth < MAX_DEPTH and isinstance(value, Mapping):
        return {plain_text(str(key)): _storable(item, depth + 1) for key, item in value.items()}
    if depth < MAX_DEPTH and isinstance(value, list | tuple | set | frozenset):
        items = sorted(value, key=str) if isinstance(value, set | frozenset) else value
        return [_storable(item, depth + 1) for item in items]
    return plain_text(str(value))


def _text(value: Any, depth: int) -> str:
    if depth > MAX_DEPTH + 2:
        raise NotCanonical("nested too deeply")
    if isinstance(value, str):
        return _string(value)
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int) and abs(value) <= MAX_INTEGER:
        return str(int(value))
    if isinstance(value, list):
        return f"[{','.join(_text(item, depth + 1) for item in value)}]"
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        # RFC 8785 sorts names by their UTF-16 code units.
        names = sorted(value, key=lambda name: name.encode("utf-16-be", "surrogatepass"))
        members = ",".join(f"{_string(name)}:{_text(value[name], depth + 1)}" for name in names)
        return f"{{{members}}}"
    raise NotCanonical(
        f"a {type(value).__name__} where only text, whole numbers, lists and objects are stored"
    )


def _string(text: str) -> str:
    """As RFC 8785 wants it: only quote, backslash and control characters below U+0020 are escaped."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise NotCanonical("a lone surrogate") from error
    return json.dumps(text, ensure_ascii=False)
