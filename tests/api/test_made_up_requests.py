# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests that schemathesis makes up from the schema, right and wrong ones: never a 500, always as described."""

import os

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from portal.wsgi import application
from tests.api.support import World, token_of
from tests.backups.conftest import point, vm

__all__ = ["point", "vm"]
pytestmark = [pytest.mark.django_db]

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.fixture
def schema(people, world: World, point, settings):
    settings.API_READS = settings.API_WRITES = 1_000_000
    # As Django's test client does: this connection holds the test's transaction.
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield schemathesis.openapi.from_wsgi("/api/v1/schema", application)
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


def _known(world: World, point) -> dict[str, list[str]]:
    """What stands at `{uuid}` and `{which}` in an address, by its first part."""
    return {
        "environments": [str(world.environment.uuid)],
        "vms": [str(world.vm.uuid), str(point.vm.uuid)],
        "points": [str(world.point.uuid), str(point.uuid)],
        "jobs": [str(world.job.uuid), str(world.restore.job.uuid)],
        "restores": [str(world.restore.uuid)],
        "repositories": [str(world.repository.uuid)],
        "teams": [str(world.team.uuid)],
    }


def _ask(operation, token: str, known: dict[str, list[str]], examples: int) -> None:
    right = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    wrong = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
    kind = operation.path.removeprefix("/api/v1/").split("/")[0]

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize="API_SEED" not in os.environ,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=right | wrong, real=st.sampled_from(known.get(kind, [""])), use=st.booleans())
    def ask(case, real, use):
        if use and "uuid" in (case.path_parameters or {}):
            case.path_parameters["uuid"] = real
        if isinstance(case.query, dict):
            case.query.pop("wait", None)  # its time is not ours
        case.call_and_validate(checks=CHECKS, headers={"Authorization": f"Bearer {token}"})

    ask()


def _ask_all(schema, token: str, known: dict[str, list[str]], examples: int) -> int:
    operations = [result.ok() for result in schema.get_all_operations()]
    for operation in operations:
        _ask(operation, token, known, examples)
    return len(operations)


def test_no_made_up_request_breaks_anything(people, schema, world, point):
    assert _ask_all(schema, token_of(people.root), _known(world, point), 8) >= 20


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("name", ["root", "alice", "dave"])
def test_nor_do_very_many(people, schema, world, point, name):
    assert _ask_all(schema, token_of(getattr(people, name)), _known(world, point), 300) >= 20
