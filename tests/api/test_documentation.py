# SPDX-License-Identifier: GPL-3.0-or-later
"""What the API says of itself: the schema, the page for people, the list of codes, and a client made from it."""

import importlib
import json
import subprocess
import sys

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from portal.api import reference
from portal.api.codes import all_codes, as_markdown
from portal.api.management.commands import api_problems
from portal.jobs.models import Job
from portal.jobs.states import JobState
from tests.api.support import Api, token_of

pytestmark = [pytest.mark.django_db]


def test_the_schema_is_to_be_had_without_a_token(db):
    answer = Api().get("schema", accept="application/json")
    assert answer.status_code == 200
    found = json.loads(answer.content)
    assert found["openapi"].startswith("3.")
    assert found["paths"].keys() == reference.schema()["paths"].keys()
    assert Api().get("schema").status_code == 200


def test_every_operation_says_what_it_does_and_how_it_is_refused():
    for path, methods in reference.schema()["paths"].items():
        for method, told in methods.items():
            assert told["description"].strip(), (method, path)
            assert "default" in told["responses"]
            names = {item["name"] for item in told.get("parameters", ())}
            assert ("Idempotency-Key" if method == "post" else "If-None-Match") in names
            assert method == "get" or "scope" in told["description"]


def test_the_page_for_people_names_every_address_and_code(people):
    client = Client()
    client.force_login(people.carol)
    page = client.get("/api/v1/docs").content.decode()
    for path in reference.schema()["paths"]:
        assert path in page
    for code in all_codes():
        assert f'id="{code.code}"' in page
    for scope, _ in reference.scopes():
        assert f"<code>{scope}</code>" in page


def test_the_list_of_codes_is_complete(settings, tmp_path):
    codes = {code.code: code for code in all_codes()}
    assert codes["not_allowed"].status == 403
    assert codes["backup_already_running"].meaning
    assert all(code.meaning and 400 <= code.status < 600 for code in codes.values())
    call_command("api_problems")
    settings.BASE_DIR = tmp_path
    (tmp_path / "docs").mkdir()
    with pytest.raises(CommandError, match="behind"):
        call_command("api_problems")
    call_command(api_problems.Command(), write=True)
    assert (tmp_path / "docs" / "api-problems.md").read_text() == as_markdown(all_codes())
    call_command("api_problems")


@pytest.fixture
def client_package(tmp_path, monkeypatch):
    """openapi-python-client's own idea of the API, as a package."""
    description, config = tmp_path / "schema.json", tmp_path / "config.yml"
    description.write_text(json.dumps(reference.schema(), default=str))
    config.write_text("post_hooks: []\n")
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--path", str(description)]
    made = subprocess.run(
        [*command, "--meta", "none", "--output-path", str(tmp_path / "made_client"), "--config", str(config)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "warn" not in (made.stdout + made.stderr).lower()
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "made_client"]:
        del sys.modules[name]


@pytest.mark.django_db(transaction=True)
def test_a_generated_client_reads_and_starts_a_backup(people, world, repository, live_server, client_package):
    made = importlib.import_module("made_client")
    models = importlib.import_module("made_client.models")

    def operation(name: str):
        return importlib.import_module(f"made_client.api.{name}")

    Job.objects.update(state=JobState.SUCCEEDED)
    client = made.AuthenticatedClient(base_url=live_server.url, token=token_of(people.bob))
    page = operation("vms.vms_list").sync(client=client, environment="Manager", name="shop")
    assert [vm.uuid for vm in page.results] == [world.vm.uuid]
    named = models.BackupBodyRequestVmType1(environment="Manager", name="shop")
    order = models.BackupBodyRequest(vm=named, ticket="INC-5")
    start = operation("backups.backups_create")
    answers = [start.sync_detailed(client=client, body=order, idempotency_key="INC-5/1") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    job = Job.objects.get(ticket="INC-5")
    assert {answer.parsed.uuid for answer in answers} == {job.uuid}
    seen = operation("jobs.jobs_retrieve").sync(client=client, uuid=job.uuid)
    assert (seen.state.value, seen.vm.name, seen.error) == ("pending", "shop", None)
    assert operation("jobs.jobs_list").sync(client=client, ticket="INC-5").results == [
        models.Job.from_dict({key: value for key, value in seen.to_dict().items() if key != "steps"})
    ]
