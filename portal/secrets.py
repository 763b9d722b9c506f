# SPDX-License-Identifier: GPL-3.0-or-later
"""Credentials at rest: MultiFernet (first key encrypts, every key decrypts), keys outside the database."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from portal.errors import PortalError


class CredentialUnreadable(PortalError):
    """A stored credential cannot be decrypted with the keys at hand."""


def secret_from_file(path: Path) -> str:
    """A Fernet key kept in `path`; made on first use, readable by its owner only."""
    if not path.exists():
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
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


def _box(keys: list[str]) -> MultiFernet:
    return MultiFernet([Fernet(key) for key in keys])
