# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab and a portal beside each other, with people, a Manager and a repository."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command

from backups import services as backups
from portal.accounts.models import Membership, Team, User
from portal.accounts.roles import Role
from portal.environments import people
from portal.environments import services as environments
from portal.environments.models import Environment, VirtualMachine
from portal.supervisor import Supervisor, die_with_parent, portal_children

LAB_START_SECONDS = 180


class DemoFailed(Exception):
    """A part of the demo did not come up or a step did not end as it must."""


@dataclass
class Stage:
    """`passwords` by user name, for the person who runs the demo; `token` is a service account's, for the API."""

    lab: dict[str, Any]
    lab_process: subprocess.Popen[str]
    supervisor: Supervisor
    watcher: threading.Thread
    environment: Environment
    url: str
    passwords: dict[str, str] = field(repr=False)
    token: str = field(default="", repr=False)

    def vm(self, position: int) -> VirtualMachine:
        """The lab's VM at that position of its list."""
        return VirtualMachine.objects.get(
            environment=self.environment, manager_id=self.lab["vms"][position]["id"]
        )

    def close(self) -> None:
        self.supervisor.stop()
        self.watcher.join(timeout=40)
        self.lab_process.terminate()
        try:
            self.lab_process.wait(60)
        except subprocess.TimeoutExpired:
            self.lab_process.kill()
            self.lab_process.wait()


def set_up(*, lab_dir: Path, bind: str, lab_options: list[str]) -> Stage:
    """Start everything and return when a person could sign in. Raises DemoFailed."""
    bind = _free_address(bind)
    call_command("migrate", verbosity=0)
    lab_process, lab = start_lab(lab_dir, lab_options, settings.DATA_DIR / "log")
    try:
        admin, passwords = _people()
        backups.ensure_default_repository()
        environment = environments.add_environment(
            actor=admin,
            name="Lab Manager",
            api_url=lab["api"],
            username=lab["username"],
            password=lab["password"],
            ca_pem=Path(lab["ca_file"]).read_text(),
            via="command",
        )
        _give_machines_to_teams(environment)
        _name_the_owner(admin, environment)
        supervisor = Supervisor(
            portal_children(bind=bind, workers=2, concurrency=2, data_dir=settings.DATA_DIR),
            os.environ,
            log_dir=settings.DATA_DIR / "log",
        )
        supervisor.start()
    except BaseException:
        lab_process.terminate()
        raise
    watcher = threading.Thread(target=supervisor.watch, name="supervisor", daemon=True)
    watcher.start()
    return Stage(
        lab=lab,
        lab_process=lab_process,
        supervisor=supervisor,
        watcher=watcher,
        environment=environment,
        url=f"http://{bind}/",
        passwords=passwords,
    )


def _free_address(bind: str) -> str:
    """The address itself, or with a free port for port 0. Raises DemoFailed if somebody else listens there."""
    host, _, port = bind.rpartition(":")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except (OSError, ValueError) as error:
            raise DemoFailed(
                f"The web server cannot listen on {bind}: {error}. "
                'Choose another address: make demo DEMO_OPTIONS="--bind 127.0.0.1:8001"'
            ) from error
        return f"{host}:{probe.getsockname()[1]}"


def start_lab(
    lab_dir: Path, options: list[str], log_dir: Path
) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    """Start the lab and read its one JSON line. Raises DemoFailed."""
    log_dir.mkdir(parents=True, exist_ok=True)
    manage = str(settings.BASE_DIR / "manage.py")
    with (log_dir / "lab.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, manage, "lab", "--dir", str(lab_dir), *options],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            preexec_fn=die_with_parent,
        )
    assert process.stdout is not None
    timer = threading.Timer(LAB_START_SECONDS, process.kill)
    timer.start()
    line = process.stdout.readline()
    timer.cancel()
    if not line:
        process.wait()
        raise DemoFailed(f"The lab did not start; {log_dir / 'lab.log'} says why.")
    facts: dict[str, Any] = json.loads(line)
    return process, facts


def _people() -> tuple[User, dict[str, str]]:
    """A platform admin, an operator, a viewer and an owner without a team, each with a random password."""
    passwords = {name: secrets.token_urlsafe(9) for name in ("admin", "olivia", "victor", "oscar")}
    admin = User.objects.create_superuser(
        "admin", password=passwords["admin"], first_name="Ada", last_name="Admin"
    )
    olivia = User.objects.create_user(
        "olivia", password=passwords["olivia"], first_name="Olivia", last_name="Operator"
    )
    victor = User.objects.create_user(
        "victor", password=passwords["victor"], first_name="Victor", last_name="Viewer"
    )
    User.objects.create_user("oscar", password=passwords["oscar"], first_name="Oscar", last_name="Owner")
    team = Team.objects.create(name="Web shop")
    Membership.objects.create(team=team, user=olivia, role=Role.OPERATOR)
    Membership.objects.create(team=team, user=victor, role=Role.VIEWER)
    return admin, passwords


def _give_machines_to_teams(environment: Environment) -> None:
    team = Team.objects.get(name="Web shop")
    for vm in environment.vms.filter(name__in=["web-01", "db-01"]):
        vm.teams.add(team)


def _name_the_owner(admin: User, environment: Environment) -> None:
    """Who owns web-01 by the Manager's word is our oscar."""
    owner = people.owners_of(environment).get(vm__name="web-01")
    oscar = User.objects.get(username="oscar")
    people.set_identity(
        actor=admin, environment=environment, principal=owner.principal, user=oscar, via="command"
    )


def wait_until_serving(url: str, timeout_seconds: float = 60) -> None:
    import urllib.error
    import urllib.request

    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}alive/", timeout=2) as answer:  # noqa: S310
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise DemoFailed("The web server did not answer in time.")
