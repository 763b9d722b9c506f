# SPDX-License-Identifier: GPL-3.0-or-later
"""How much a repository holds, without walking over millions of files."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass

from backups.store.chunks import CHUNK_NAME
from backups.store.errors import storage_errors
from backups.store.repository import Repository

# Ids are hashes, so chunks are spread evenly over the folders: this many files give both numbers to about 1 %.
SAMPLE_FILES = 10_000


@dataclass(frozen=True)
class Usage:
    """Chunks and their compressed bytes; counted if `exact`, else estimated from some of the folders."""

    chunks: int
    bytes: int
    exact: bool


def measure(repository: Repository, *, sample_files: int = SAMPLE_FILES) -> Usage:
    """Count what lies in folders taken at random, until enough files are seen. Raises StoreError."""
    repository.check()
    prefixes = list(repository.chunks.prefixes())
    random.shuffle(prefixes)
    chunks = size = looked = 0
    with storage_errors("measuring the repository"):
        for prefix in prefixes:
            if chunks >= sample_files:
                break
            looked += 1
            with os.scandir(repository.chunks.folder / prefix) as entries:
                for entry in entries:
                    if CHUNK_NAME.fullmatch(entry.name):
                        chunks += 1
                        size += entry.stat(follow_symlinks=False).st_size
    if looked == len(prefixes):
        return Usage(chunks, size, exact=True)
    return Usage(chunks * len(prefixes) // looked, size * len(prefixes) // looked, exact=False)
