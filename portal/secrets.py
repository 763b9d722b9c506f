# SPDX-License-Identifier: GPL-3.0-or-later
"""Credentials at rest: MultiFernet (first key encrypts, every key decrypts), keys outside the database."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from portal.errors import PortalError


class CredentialUnreadable(PortalError):
    """A stored credential cannot be decrypted with the keys at hand."""


def secret_from_file(path: Path) -> str:
    """A Fernet key kept in `path`; made on first use, readable by its owner only."""
    if not path.exists():
        # A name of its own, readable by its owner only: in a container the process id is the same at each start.
        descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
        draft = Path(name)
        with os.fdopen(descriptor, "w") as file:
            file.write(Fernet.generate_key().decode())
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)  # the first of several starters wins; the others read its key
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text().strip()


def encrypt(text: str, keys: list[str]) -> str:
    return _box(keys).encrypt(text.encode()).decode()


def decrypt(token: str, keys: list[str]) -> str:
    """Raises CredentialUnreadable if no key fits, without naming the token."""
    try:
        return _box(keys).decrypt(token.encode()).decode()
    except InvalidToken as error:
        raise CredentialUnreadable(
            "A stored password could not be decrypted, so it was not used.",
            hint="Put the earlier key back (PORTAL_CREDENTIAL_KEYS or credentials.key) or enter it again.",
        ) from error


def checked_keys(keys: list[str]) -> list[str]:
    """The same keys. Raises ValueError, naming none of them, if one cannot be a key."""
    for number, key in enumerate(keys, 1):
        try:
            Fernet(key)
        except ValueError:
            raise ValueError(f"credential key {number} is not 32 bytes in URL-safe base64") from None
    return keys


def _box(keys: list[str]) -> MultiFernet:
    return MultiFernet([Fernet(key) for key in keys])
