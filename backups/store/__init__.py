# SPDX-License-Identifier: GPL-3.0-or-later
"""The repository on disk: chunks, indexes, restore points (docs/store-format.md). No Django in here."""

from backups.store.chunks import ChunkStore
from backups.store.index import IndexReader, PartialIndex, chunk_size_for
from backups.store.points import StagedPoint
from backups.store.repository import PointRef, Repository
from backups.store.stored import StoredPoint
from backups.store.writer import ChunkWriter

__all__ = [
    "ChunkStore",
    "ChunkWriter",
    "IndexReader",
    "PartialIndex",
    "PointRef",
    "Repository",
    "StagedPoint",
    "StoredPoint",
    "chunk_size_for",
]
