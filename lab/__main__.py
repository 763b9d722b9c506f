# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m lab --dir DIR`: run a stand-in Manager until SIGTERM or SIGINT.

When it is ready it prints one line of JSON: `api`, `ca_file`, `username`, `password`, `imageio`, `control`, `dir`, `vms`,
`hosts`."""

import argparse
import asyncio
import json
import logging
import os
import secrets
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.api.server import ApiServer
from lab.control.actions import Grip
from lab.control.outage import Outage
from lab.control.server import ControlServer
from lab.engine.clock import parse_lag
from lab.engine.manager import Manager, Settings
from lab.engine.state import COMPAT_LEVELS
from lab.guests import PROFILES
from lab.hosts.hosts import Hosts
from lab.pki import make_pki

log = logging.getLogger("lab")


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m lab", description="A stand-in oVirt Manager with real parts."
    )
    parser.add_argument(
        "--dir", type=Path, required=True, help="empty or new folder for all of the lab's files"
    )
    parser.add_argument("--api-port", type=int, default=0, help="port of the API (default: any free one)")
    parser.add_argument(
        "--control-port", type=int, default=0, help="port of the control endpoint (any free one)"
    )
    parser.add_argument("--lag", type=parse_lag, default="real", help="real (default), fast, or a factor")
    parser.add_argument(
        "--retention", type=float, default=1.0, help="factor on how long records are kept (0: not at all)"
    )
    parser.add_argument("--profile", choices=sorted(PROFILES), default="small", help="size of the guests")
    parser.add_argument("--username", default="admin@internal", help="user@profile (default %(default)s)")
    parser.add_argument(
        "--compat",
        choices=["{}.{}".format(*level) for level in COMPAT_LEVELS],
        default="4.6",
        help="the cluster's compatibility level (default %(default)s)",
    )
    parser.add_argument(
        "--hosts", action="store_true", help="with the Manager's machine, by SSH (needs PostgreSQL)"
    )
    return parser.parse_args(argv)


def settings_of(arguments: argparse.Namespace) -> Settings:
    major, minor = arguments.compat.split(".")
    return Settings(
        directory=arguments.dir.resolve(),
        username=arguments.username,
        compat=(int(major), int(minor)),
        profile=arguments.profile,
        lag=arguments.lag,
        retention=arguments.retention,
    )


async def run(settings: Settings, port: int, control_port: int, with_hosts: bool) -> None:
    """Start everything, announce it, wait for a signal, stop everything."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    pki = make_pki(settings.directory / "pki")
    password = secrets.token_urlsafe(16)
    manager = Manager(settings, pki)
    server = ApiServer(manager, pki, settings.username, password)
    hosts = Hosts(manager.core, server.sign_on, settings.directory / "hosts") if with_hosts else None
    control = ControlServer(Grip(manager, Outage(manager, server), server.sign_on, hosts))
    try:
        server.bind(port)
        starting = asyncio.create_task(start(manager, hosts))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            await server.start()
            await control.start(control_port)
            announce(settings, manager, server, control, password, hosts)
            await stopping
        else:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
    finally:
        await control.close()
        if hosts is not None:
            await hosts.close()
        await server.close()
        await manager.close()


async def start(manager: Manager, hosts: Hosts | None) -> None:
    await manager.start()
    if hosts is not None:
        await hosts.start()


def announce(
    settings: Settings,
    manager: Manager,
    server: ApiServer,
    control: ControlServer,
    password: str,
    hosts: Hosts | None,
) -> None:
    vms = manager.core.state.vms.values()
    line = {
        "api": server.url,
        "ca_file": str(settings.directory / "pki" / "ca.pem"),
        "username": settings.username,
        "password": password,
        "imageio": manager.core.host_imageio.url,
        "control": control.url,
        "dir": str(settings.directory),
        "hosts": hosts.told() if hosts is not None else [],
        "vms": [{"name": vm.name, "id": vm.id, "status": vm.status} for vm in vms],
    }
    print(json.dumps(line), flush=True)


def main() -> int:
    arguments = parse_arguments(sys.argv[1:])
    settings = settings_of(arguments)
    if "@" not in settings.username:
        print("--username must be user@profile", file=sys.stderr)
        return 2
    os.umask(0o077)
    settings.directory.mkdir(parents=True, exist_ok=True)
    if (settings.directory / "storage").exists():
        print(f"{settings.directory} already holds a lab; give an empty folder", file=sys.stderr)
        return 2
    logging.basicConfig(
        filename=settings.directory / "lab.log",
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    try:
        asyncio.run(run(settings, arguments.api_port, arguments.control_port, arguments.hosts))
    except Exception as error:
        log.exception("the lab ends")
        print(f"the lab could not run: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
