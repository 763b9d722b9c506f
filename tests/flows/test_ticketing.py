# SPDX-License-Identifier: GPL-3.0-or-later
"""A ticketing system in a process of its own, which knows the portal by HTTP alone: orders, repeats, webhooks, death.

And the commands of docs/api.md, as they stand there.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.cache import cache
from django.db import connection

from portal.accounts.models import Membership, Team, User
from portal.accounts.roles import Role
from portal.api import tokens
from portal.events import webhooks
from portal.events.kinds import EventKind
from portal.events.models import DeliveryState, Webhook
from portal.jobs.models import Job
from restores import approvals
from restores.models import Restore
from tests.api.web import Web
from tests.flows import support
from tests.ticketing.documented import documented_commands
from tests.worker_support import Workers, finished, wait_for

pytestmark = [pytest.mark.flow, pytest.mark.lab]

MACHINE = "legacy-01"


@pytest.fixture(scope="module")
def web(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    started = Web.start(tmp_path_factory.mktemp("web") / "web.log")
    yield started
    started.stop()


@pytest.fixture(scope="module")
def courier(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The worker that sends webhooks."""
    started = Workers.start(connection.settings_dict, tmp_path_factory.mktemp("courier"), names=["courier"])
    yield
    started.stop()


@pytest.fixture
def token(people) -> str:
    """Of a service account that is an operator of the team."""
    cache.clear()
    service = User.objects.create(username="servicenow", is_service=True)
    Membership.objects.create(team=people.team, user=service, role=Role.OPERATOR)
    scopes = ["read", "backup", "restore"]
    return tokens.create_token(actor=people.root, owner=service, name="tickets", scopes=scopes)[1]


class System:
    """The ticketing program: started, killed, asked."""

    def __init__(self, portal: str, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.portal, self.folder = portal, folder
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, **environment: str) -> None:
        command = [sys.executable, "-m", "tests.ticketing", "--portal", self.portal]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--port", str(self.port), "--folder", str(self.folder)],
                env={**os.environ, **environment},
                stdout=log,
                stderr=log,
            )
        wait_for(self._answers, what="the ticketing system to answer")

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()
        try:
            return bool(self.get("/"))
        except OSError:
            return False

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(30)

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=60) as answer:
            return json.load(answer)

    def post(self, path: str, body: Any = None) -> Any:
        data = json.dumps(body).encode()
        with urllib.request.urlopen(f"{self.url}{path}", data, timeout=120) as answer:
            return json.load(answer)

    def ticket(self, number: str) -> Any:
        return self.get(f"/tickets/{number}")


@pytest.fixture
def system(environment, repository, workers, courier, web, people, token, tmp_path) -> Iterator[System]:
    """With a webhook of the team to it."""
    found = System(f"http://127.0.0.1:{web.port}", tmp_path)
    _, secret = webhooks.add_webhook(
        actor=people.root,
        name="Tickets",
        url=f"{found.url}/hook",
        kinds=list(EventKind.values),
        team=people.team,
        allow_private=True,
        allow_http=True,
    )
    (tmp_path / "token").write_text(token)
    (tmp_path / "secret").write_text(secret)
    found.start()
    yield found
    found.kill()


def wish(wants: str) -> dict[str, str]:
    return {"machine": MACHINE, "wants": wants, "requested_for": "erika@example.com", "reason": "She asked."}


def test_a_ticket_restores_a_machine_once_and_is_closed_by_the_webhook(environment, people, system):
    """Also through a second person's consent, which the team asks for."""
    support.back_up(people.bob, environment.vms.get(name=MACHINE))
    Team.objects.filter(pk=people.team.pk).update(approval=Team.Approval.EVERY)
    opened = system.post("/tickets/INC0012345", wish("restore"))
    assert opened["state"] == "open", opened
    system.post("/tickets/INC0012345/approve")
    for _ in range(3):
        system.post("/tickets/INC0012345/order")
    wait_for(
        lambda: system.ticket("INC0012345")["notes"] == ["job.waiting"], what="the desk to hear that it waits"
    )
    approvals.approve(actor=people.alice, restore=Restore.objects.get())
    wait_for(
        lambda: system.ticket("INC0012345")["state"] == "closed",
        what="the webhook to close the ticket",
        seconds=180,
    )
    restore = Restore.objects.get()
    support.remove_vm(environment, str(restore.new_vm_id))
    ticket, job = system.ticket("INC0012345"), restore.job
    assert ticket["answers"] == [202] * 4
    assert ticket["job"] == str(job.uuid)
    assert ticket["notes"] == ["job.waiting", "job.started", "job.succeeded"]
    assert ticket["result"]["vm_id"] == str(restore.new_vm_id)
    assert ticket["result"]["identical"] is True
    assert (job.ticket, job.requested_for, job.via) == ("INC0012345", "erika@example.com", "api")
    assert job.requested_by.is_service


def test_a_ticketing_system_that_is_killed_goes_on_and_catches_up(environment, people, system):
    system.kill()
    system.start(TICKETING_DIES_AFTER_ORDER="1")
    assert system.post("/tickets/OPS-42", wish("backup"))["state"] == "open"
    with pytest.raises(OSError):
        system.post("/tickets/OPS-42/approve")
    job = finished(Job.objects.get())
    assert job.state == "succeeded"
    webhook = Webhook.objects.get()
    wait_for(
        lambda: webhook.deliveries.filter(attempts_made__gt=0).exists(), what="an event to be sent in vain"
    )
    assert not webhook.deliveries.filter(state=DeliveryState.DELIVERED).exists()
    system.start()
    ticket = system.ticket("OPS-42")
    assert ticket["state"] == "closed", "by events?after=N, before any webhook came"
    assert (ticket["job"], ticket["answers"]) == (str(job.uuid), [202])
    assert Job.objects.count() == 1
    assert ticket["notes"] == ["job.started", "restore_point.created", "job.succeeded"]
    assert ticket["result"]["point"] == str(job.points.get().uuid)
    # The webhook brings the same events later; they change nothing any more.
    webhooks.ping(actor=people.root, webhook=webhook)
    wait_for(
        lambda: not webhook.deliveries.exclude(state=DeliveryState.DELIVERED).exists(),
        what="everything to be delivered after all",
        seconds=120,
    )
    assert system.get("/")["deliveries"] == 4
    again = webhook.deliveries.filter(event__isnull=False).first()
    webhooks.send_again(actor=people.root, delivery=again)
    wait_for(lambda: system.get("/")["repeated"] == 1, what="the repeated delivery to be known by its id")
    assert system.ticket("OPS-42") == ticket


def test_the_documented_commands_run_as_they_stand(environment, repository, workers, web, token, tmp_path):
    script = tmp_path / "documented.sh"
    script.write_text(f"set -euo pipefail\n{documented_commands()}")
    ran = subprocess.run(
        ["bash", str(script)],
        cwd=tmp_path,
        env={
            **os.environ,
            "PORTAL": f"http://127.0.0.1:{web.port}",
            "TOKEN": token,
            "MACHINE": MACHINE,
        },
        capture_output=True,
        text=True,
        timeout=240,
    )
    for restore in Restore.objects.exclude(new_vm_id=None):
        support.remove_vm(environment, str(restore.new_vm_id))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "OPS-42: job.succeeded" in ran.stdout
    jobs = list(Job.objects.order_by("id").values_list("kind", "state", "ticket"))
    assert jobs == [
        ("vm_backup", "succeeded", "INC0012345"),
        ("vm_restore", "succeeded", "INC0012345"),
        ("vm_backup", "succeeded", "OPS-42"),
    ]
    assert (tmp_path / "token.header").stat().st_mode & 0o077 == 0
    assert not (Path(settings.BASE_DIR) / "token.header").exists()
