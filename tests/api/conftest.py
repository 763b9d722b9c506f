# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine of the team with everything on it, and clients with tokens."""

import pytest
from django.core.cache import cache

from tests.api.support import World, api_of
from tests.conftest import People


@pytest.fixture(autouse=True)
def fresh_counts():
    """Requests of other tests do not count against this one's limits."""
    cache.clear()


@pytest.fixture
def world(people: People) -> World:
    return World(people.team)


@pytest.fixture
def alice(people: People):
    """Admin of the team, with a token for everything."""
    return api_of(people.alice)


@pytest.fixture
def root(people: People):
    return api_of(people.root)
