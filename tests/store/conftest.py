# SPDX-License-Identifier: GPL-3.0-or-later
import pytest

from backups.store import Repository


@pytest.fixture
def repository(tmp_path):
    """A new repository whose unused chunks may be collected after an hour."""
    return Repository.create(tmp_path / "repository", owner="tests", gc_age_seconds=3600)
