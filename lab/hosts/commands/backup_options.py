# SPDX-License-Identifier: GPL-3.0-or-later
"""engine-backup's command line (reference 1.1 to 1.4)."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lab.hosts.commands.common import stamp


class Fatal(Exception):
    """engine-backup ends: `FATAL: TEXT` on stderr, exit 1 (reference 1.9)."""


@dataclass(frozen=True)
class Family:
    """A database that engine-backup knows. `flag` begins its options, `variable` its configuration."""

    name: str
    flag: str
    variable: str
    scope: str
    event: str
    label: str
    setting: str
    member: str
    conf: str
    provisioned: str


FAMILIES = (
    Family("engine", "", "ENGINE", "db", "db", "Engine", "Engine", "engine_backup.db",
           "/etc/ovirt-engine/engine.conf.d/10-setup-database.conf", "OVESETUP_ENGINE_CORE/enable"),
    Family("dwh", "dwh-", "DWH", "dwhdb", "dwhdb", "DWH", "DWH", "dwh_backup.db",
           "/etc/ovirt-engine-dwh/ovirt-engine-dwhd.conf.d/10-setup-database.conf", "OVESETUP_DWH_CORE/enable"),
    Family("cinderlib", "cinderlib-", "CINDERLIB", "cinderlibdb", "cinderlib", "CINDERLIB", "Cinderlib",
           "cinderlib_backup.db", "/etc/ovirt-engine/engine.conf.d/10-setup-cinderlib-database.conf",
           "OVESETUP_CL_DB/enable"),
    Family("keycloak", "keycloak-", "KEYCLOAK", "keycloakdb", "keycloak", "KEYCLOAK", "Keycloak", "keycloak_backup.db",
           "/etc/ovirt-engine/engine.conf.d/12-setup-keycloak.conf", "OVESETUP_CONFIG/keycloakEnable"),
)  # fmt: skip
SCOPES = ("files", "db", "dwhdb", "cinderlibdb", "keycloakdb", "grafanadb")
EVENT_SCOPES = {"cinderlibdb": "cinderlib", "keycloakdb": "keycloak"}
COMPRESSORS = ("gzip", "bzip2", "xz", "None")
DETAILS = ("host", "port", "user", "name", "password", "passfile", "secured", "sec-validation")


@dataclass
class Options:
    """What was asked for. `database` holds the details of each family by name."""

    mode: str = "backup"
    file: str = ""
    log: str = ""
    scopes: list[str] = field(default_factory=list)
    tmpdir: str = field(default_factory=lambda: os.environ.get("TMPDIR") or "/tmp")
    archive_compressor: str = "gzip"
    files_compressor: str = "xz"
    dump_compressor: dict[str, str] = field(default_factory=lambda: {f.name: "None" for f in FAMILIES})
    dump_format: dict[str, str] = field(default_factory=lambda: {f.name: "custom" for f in FAMILIES})
    jobs: dict[str, str] = field(default_factory=lambda: {f.name: "2" for f in FAMILIES})
    change: set[str] = field(default_factory=set)
    provision: set[str] = field(default_factory=set)
    provision_all: bool = False
    database: dict[str, dict[str, str]] = field(default_factory=lambda: {f.name: {} for f in FAMILIES})
    permissions: bool | None = None
    keep_temporary: bool = False
    he_remove: set[str] = field(default_factory=set)
    help: bool = False

    @property
    def all_scopes(self) -> set[str]:
        return set(SCOPES) if "all" in self.scopes else set(self.scopes)


def parse(argv: Sequence[str], options: Options) -> None:
    """Fill `options`, which keeps what was read before an error. Stops silently at the first empty argument (1.1).

    Raises Fatal."""
    for argument in argv:
        if argument == "":
            break
        name, equals, value = argument.partition("=")
        if not (_flag(argument, options) or (equals and _value(name, value, options))):
            raise Fatal(f"Unknown option '{argument}'. Please see '--help' for details.")
        if options.help:
            return
    options.scopes = options.scopes or ["all"]


def _flag(argument: str, options: Options) -> bool:
    if argument == "--help":
        options.help = True
    elif argument in ("--restore-permissions", "--no-restore-permissions"):
        options.permissions = argument == "--restore-permissions"
    elif argument == "--keep-temporary-data":
        options.keep_temporary = True
    elif argument in ("--he-remove-storage-vm", "--he-remove-hosts"):
        options.he_remove.add(argument)
    elif argument == "--provision-all-databases":
        options.provision_all = True
    elif argument in ("--fast-backup", "--fast-restore"):
        _dumps(options, "None", "custom")
    elif argument == "--small-size":
        options.archive_compressor = "xz"
        _dumps(options, "xz", "plain")
    else:
        return _family_flag(argument, options)
    return True


def _dumps(options: Options, compressor: str, dump_format: str) -> None:
    for name in ("engine", "dwh"):
        options.dump_compressor[name], options.dump_format[name] = compressor, dump_format


def _family_flag(argument: str, options: Options) -> bool:
    for family in FAMILIES:
        if argument == f"--provision-{family.flag}db":
            options.provision.add(family.name)
            return True
        if argument == f"--change-{family.flag}db-credentials":
            options.change.add(family.name)
            return True
        if argument == f"--{family.flag}db-password":
            options.database[family.name]["prompt"] = family.setting
            return True
    return False


def _value(name: str, value: str, options: Options) -> bool:
    if name == "--mode":
        if value not in ("backup", "restore", "verify"):
            raise Fatal("invalid mode")
        options.mode = value
    elif name == "--scope":
        if value not in ("all", *SCOPES):
            raise Fatal(f"invalid scope '{value}'")
        options.scopes.append(value)
    elif name in ("--file", "--log", "--tmpdir"):
        setattr(options, name[2:], value)
    elif name in ("--archive-compressor", "--files-compressor"):
        setattr(options, name[2:].replace("-", "_"), _compressor(value))
    else:
        return _family_value(name, value, options)
    return True


def _compressor(value: str) -> str:
    if value not in COMPRESSORS:
        print(f"FATAL: invalid compressor '{value}'", file=sys.stderr)
        raise Fatal("failed parsing compressor")
    return value


def _family_value(name: str, value: str, options: Options) -> bool:
    for family in FAMILIES:
        prefix = f"--{family.flag}db-"
        detail = name.removeprefix(prefix)
        if not name.startswith(prefix):
            continue
        if detail == "compressor":
            options.dump_compressor[family.name] = _compressor(value)
        elif detail == "dump-format":
            if value not in ("plain", "custom"):
                raise Fatal(f"invalid dump format '{value}'")  # inferred: the text is not in the reference
            options.dump_format[family.name] = value
        elif detail == "restore-jobs":
            if not value.isdecimal():
                raise Fatal(f"invalid number of restore jobs '{value}'")  # inferred
            options.jobs[family.name] = value
        elif detail in DETAILS:
            options.database[family.name][detail] = value
        else:
            continue
        return True
    return False


def settle(options: Options) -> None:
    """Defaults, contradictions, passwords (reference 1.2, 1.4, 1.9). Raises Fatal."""
    if options.he_remove and options.mode != "restore":
        raise Fatal("hosted-engine cleaning options work only in restore mode")
    if not options.file:
        if options.mode != "backup":
            raise Fatal("--file is missing")
        options.file = f"/var/lib/ovirt-engine-backup/ovirt-engine-backup-{stamp()}.backup"
    if not options.log:
        options.log = f"/var/log/ovirt-engine-backup/ovirt-engine-{options.mode}-{stamp()}.log"
    if options.mode == "restore" and not Path(options.file).exists():
        raise Fatal(f"{options.file} does not exist")
    if Path(options.file).resolve() == Path(options.log).resolve():
        raise Fatal("--file and --log can not be the same")
    if not Path(options.tmpdir).is_dir():
        raise Fatal(f"Temporary directory {options.tmpdir} is missing or not a directory")
    for family in FAMILIES:
        _settle_credentials(options, family)


def _settle_credentials(options: Options, family: Family) -> None:
    details = options.database[family.name]
    if family.name not in options.change:
        if details:
            raise Fatal(
                f"Please use --change-{family.flag}db-credentials to change {family.name} db credentials"
            )
        return
    if options.provision_all or family.name in options.provision:
        raise Fatal("Cannot change credentials if provisioning a database")
    if passfile := details.get("passfile"):
        try:
            with Path(passfile).open() as stream:
                details["password"] = stream.readline().strip(" \t\n")
        except OSError as error:
            raise Fatal(f"Can not read password file {passfile}") from error
    elif "prompt" in details:
        if not sys.stdin.isatty():
            raise Fatal("Standard input is not a terminal")
        print(f"Enter {details['prompt']} database password: ", end="", file=sys.stderr, flush=True)
        details["password"] = sys.stdin.readline().rstrip("\n")
    elif variable := os.environ.get(f"OVIRT_{family.variable}_DATABASE_PASSWORD"):
        # Survives only with BACKUP_ENV_CLEAN=1 (reference 1.1).
        details["password"] = variable
    for name in ("host", "user", "name"):
        if not details.get(name):
            raise Fatal(f"--{family.flag}db-{name} is missing")
    if not details.get("password"):
        raise Fatal(f"--{family.flag}db-passfile or --{family.flag}db-password is missing")
