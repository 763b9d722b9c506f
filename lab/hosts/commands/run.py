# SPDX-License-Identifier: GPL-3.0-or-later
"""One run of engine-backup: its output, log, drop-ins, databases and events (reference 1.6, 1.10 to 1.12)."""

import os
import subprocess
import sys
import time
from pathlib import Path

from lab.hosts.commands.backup_options import EVENT_SCOPES, FAMILIES, SCOPES, Family, Fatal, Options
from lab.hosts.commands.common import passes, setup_state
from lab.hosts.commands.database import Database, DatabaseError, configured, literal

BACKUP_PATHS = (
    "/etc/ovirt-engine", "/etc/ovirt-engine-dwh", "/etc/ovirt-provider-ovn/conf.d", "/etc/ovirt-vmconsole",
    "/etc/pki/ovirt-engine", "/etc/pki/ovirt-vmconsole", "/etc/ovirt-engine-setup.conf.d",
    "/etc/httpd/conf.d/ovirt-engine-root-redirect.conf", "/etc/yum/pluginconf.d/versionlock.list",
    "/etc/firewalld/services/ovirt-https.xml", "/var/lib/openvswitch", "/etc/grafana", "/var/lib/ovirt-engine/content",
    "/var/lib/ovirt-engine/external_truststore", "/var/lib/grafana/plugins",
)  # fmt: skip
HOOKS = Path("/etc/ovirt-engine-backup")
VARIABLES = ("BACKUP_PATHS", "EXCLUDED_FILES_ON_RESTORE", "HASHER", "KEEP_TEMP_FOLDER")


class Run:
    """What all three modes share."""

    def __init__(self, options: Options, folder: Path, config: dict[str, str], version: str) -> None:
        self.options = options
        self.folder = folder
        self.config = config
        self.version = version
        self.hooks: dict[str, str] = {"BACKUP_PATHS": "\n".join(BACKUP_PATHS)}
        self._log: int | None = None

    def open_log(self) -> None:
        """Appended to, 0600 (reference 1.11). Raises Fatal."""
        path = Path(self.options.log)
        try:
            self._log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            path.chmod(0o600)
        except OSError as error:
            raise Fatal(f"Cannot create '{path}'") from error  # inferred: the text is that of the archive

    def log(self, text: str) -> None:
        if self._log is not None:
            head = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {os.getpid()}: "
            os.write(self._log, "".join(f"{head}{line}\n" for line in text.splitlines()).encode())

    def output(self, line: str) -> None:
        print(line, flush=True)
        self.log(f"OUTPUT: {line}")
        passes("engine-backup", line)

    def fatal(self, text: str) -> None:
        print(f"FATAL: {text}", file=sys.stderr, flush=True)
        self.log(f"FATAL: {text}")

    def stage(self, name: str) -> None:
        """Source every engine-backup-STAGE.d/**/*.sh, sorted; what they set is kept (reference 1.12)."""
        files = sorted((HOOKS / f"engine-backup-{name}.d").rglob("*.sh"))
        if not files:
            return
        script = "\n".join(f". '{file}'" for file in files)
        told = "".join(f'printf "%s\\0" "${name}"\n' for name in VARIABLES)
        environment = {**os.environ, **{k: v for k, v in self.hooks.items() if v}}
        done = subprocess.run(
            ["bash", "-c", f"{script}\n{told}"], env=environment, capture_output=True, text=True
        )
        if done.stderr:
            print(done.stderr, end="", file=sys.stderr)
        values = done.stdout.split("\0")
        if len(values) > len(VARIABLES):
            self.hooks.update(zip(VARIABLES, values[-len(VARIABLES) - 1 : -1], strict=True))

    def enabled(self, family: Family) -> bool:
        """Set up here and with a database user (reference 1.3)."""
        on = setup_state().get(family.provisioned) == "True"
        return on and self.database(family) is not None

    def database(self, family: Family) -> Database | None:
        return configured(self.config, family.variable)

    def notify(self, status: int, message: str) -> None:
        """`Notifying engine`: an event for each scope that was asked for (reference 1.10). Raises Fatal."""
        engine = self.database(FAMILIES[0])
        if engine is None:
            return
        scopes = [scope for scope in SCOPES if scope in self.options.all_scopes]
        calls = []
        for scope in scopes:
            name = EVENT_SCOPES.get(scope, scope)
            text = f"engine-backup: {message}, scope={name}, log={self.options.log}"
            fqdn = self.config.get("ENGINE_FQDN", "localhost")
            values = ", ".join(literal(value) for value in (text, fqdn, self.options.log))
            calls.append(f"select LogEngineBackupEvent({literal(name)}, now(), {status}, {values});")
        try:
            engine.query("\n".join(calls))
        except DatabaseError as error:
            self.log(str(error))
            raise Fatal("Failed notifying engine") from error
