# SPDX-License-Identifier: GPL-3.0-or-later
"""engine-backup --mode=restore (reference 1.4, 1.6 to 1.8), in the order of the reference's numbered steps."""

import os
import re
import secrets
import shutil
import subprocess
from pathlib import Path

from lab.hosts.commands.archive_reader import Archive
from lab.hosts.commands.backup_options import FAMILIES, Family, Fatal
from lab.hosts.commands.common import (
    DATA,
    DWH_CONF,
    ENGINE_CONF,
    engine_config,
    engine_is_active,
    shell_assignments,
    stamp,
    write_private,
)  # fmt: skip
from lab.hosts.commands.database import (
    CONTENT,
    Database,
    DatabaseError,
    identifier,
    literal,
    provision,
    superuser,
)
from lab.hosts.commands.files import database_lines
from lab.hosts.commands.run import Run

GRAFANA = Path("/var/lib/grafana/grafana.db")
UNPACKERS = {"gzip": ["gzip", "-dc"], "bzip2": ["bzip2", "-dc"], "xz": ["xz", "-dc"]}
# A restore into a new database always meets these (reference trap 12).
HARMLESS = re.compile(r"already exists|must be owner of (extension|schema)|errors ignored on restore")
TEMPORARY = "async_tasks, async_tasks_entities, business_entity_snapshot, command_entities, job, step"
LINE = "-" * 60


def run(run: Run) -> None:
    """Raises Fatal; what was put in place before it stays (reference 1.13)."""
    run.output("Preparing to restore:")
    if engine_is_active():
        raise Fatal("Engine service is active - can not restore backup")
    changed = _changed_credentials(run)
    os.utime(run.options.file)
    Path(run.options.file).chmod(0o600)
    archive = Archive(run)
    run.output("Restoring:")
    if "files" in archive.scopes:
        run.output("- Files")
        _restore_files(run, archive)
    run.config = engine_config()
    run.stage("config")
    provisioned = _families_to_provision(run, archive)
    if run.options.permissions is None and not provisioned and _any_custom(archive):
        raise Fatal(
            "Please pass one of --restore-permissions or --no-restore-permissions when restoring a backup with a "
            "custom dump format"
        )
    permissions = run.options.permissions is not False
    databases = _databases(run, archive, changed)
    if provisioned:
        _provision(run, archive, provisioned, databases, permissions)
        run.output("Restoring:")
    for database in databases.values():
        _check(run, database)
    for family, database in databases.items():
        run.output(
            f"- {family.label if family.name != 'cinderlib' else 'Cinderlib'} database '{database.name}'"
        )
        _restore_database(run, archive, family, database, permissions)
        if family.name == "engine":
            _after_engine(run, database)
    if "grafanadb" in archive.scopes:
        run.output(f"- Grafana database '{GRAFANA}'")
        GRAFANA.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(archive.member("grafanadb"), GRAFANA)
    run.stage("dorestore")
    _rewrite(run, changed)
    run.output("You should now run engine-setup.")


def _changed_credentials(run: Run) -> dict[str, Database]:
    """New credentials are tried before the archive is opened (reference 1.4)."""
    changed = {}
    for family in FAMILIES:
        if family.name not in run.options.change:
            continue
        details = run.options.database[family.name]
        database = Database(
            details["host"],
            details.get("port", "5432"),
            details["user"],
            details["password"],
            details["name"],
        )
        run.output(f"- Setting credentials for {family.setting} database '{database.name}'")
        _connect(run, database)
        changed[family.name] = database
    return changed


def _connect(run: Run, database: Database) -> None:
    try:
        database.query("select 1")
    except DatabaseError as error:
        run.log(str(error))
        raise Fatal(
            f"Can't connect to database '{database.name}'. Please see '/usr/bin/engine-backup --help'."
        ) from error


def _restore_files(run: Run, archive: Archive) -> None:
    """Into / at once, before any database is looked at; a few are left out (reference 1.6)."""
    excluded = [
        "etc/ovirt-engine-setup.conf.d/10-packaging*.conf",
        "etc/ovirt-engine/engine-config/engine-config.properties",
    ]
    made = (archive.content / "os_version").read_text().strip()
    system = shell_assignments([Path("/etc/os-release")])
    if made != f"{system['ID']}{system['VERSION_ID'].split('.')[0]}":
        excluded.append("etc/httpd*")
        print(
            f"{LINE}\nBacked up on {made}.\nApache httpd configuration will not be restored.\n{LINE}",
            flush=True,
        )
    options = [f"--exclude={pattern}" for pattern in excluded]
    done = subprocess.run(
        ["tar", "-C", "/", "--no-same-owner", *options, "-pxf", str(archive.member("files"))],
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        run.log(done.stderr)
        raise Fatal("Failed restoring files")
    run.output("Checking certificates for legacy encryption:")
    run.output("  no certificate with legacy encryption")  # inferred: the indented lines' text


def _families(archive: Archive) -> list[Family]:
    return [family for family in FAMILIES if family.scope in archive.scopes]


def _any_custom(archive: Archive) -> bool:
    """Families' formats as the archive's config has them; Cinderlib's stays custom (reference 1.7)."""
    return any(value == "custom" for key, value in archive.config.items() if key.endswith("DB_DUMP_FORMAT"))


def _families_to_provision(run: Run, archive: Archive) -> list[Family]:
    wanted = run.options.provision
    return [f for f in _families(archive) if run.options.provision_all or f.name in wanted]


def _databases(run: Run, archive: Archive, changed: dict[str, Database]) -> dict[Family, Database]:
    """Where each family of the archive goes: new credentials, or those of the configuration."""
    found = {}
    for family in _families(archive):
        database = changed.get(family.name) or run.database(family)
        if database is None:
            raise Fatal(f"Can not find {family.conf}")
        found[family] = database
    return found


def _provision(
    run: Run, archive: Archive, families: list[Family], databases: dict[Family, Database], permissions: bool
) -> None:
    """Roles and databases on this machine (reference 1.7). Raises Fatal."""
    from lab.hosts.commands import postgres, services

    run.output("Provisioning PostgreSQL users/databases:")
    for family in families:
        if databases[family].host != "localhost" or databases[family].port != "5432":
            raise Fatal("Can provision database only in localhost")
    try:
        if not (DATA / "PG_VERSION").exists():
            postgres.initialise()
        services.enable("postgresql")
        services.start("postgresql")
    except (RuntimeError, services.UnitFailed) as error:
        run.log(str(error))
        raise Fatal(
            f"Provisioning database '{databases[families[0]].name}' failed, please check the log for details"
        ) from error
    for family in families:
        database = databases[family]
        run.output(f"- user '{database.user}', database '{database.name}'")
        _refuse_used(database)
        provision(database.user, database.password, database.name)
        if permissions:
            _extra_users(run, archive, family, database)


def _refuse_used(database: Database) -> None:
    """An existing role with an empty database is taken as it is, anything else is not (reference 1.7)."""
    role = superuser().query(f"select 1 from pg_roles where rolname = {literal(database.user)}")
    there = superuser().query(f"select 1 from pg_database where datname = {literal(database.name)}")
    empty = bool(there) and superuser(database.name).query(CONTENT) == "0"
    if (role or there) and not (role and empty):
        raise Fatal(
            f"Existing database '{database.name}' or user '{database.user}' found and temporary ones created - "
            "Please clean up everything and try again"
        )


def _extra_users(run: Run, archive: Archive, family: Family, database: Database) -> None:
    """Roles of GRANT lines that this server lacks (reference 1.7)."""
    dump = archive.member(family.scope)
    done = subprocess.run(["pg_restore", "-f", "-", str(dump)], capture_output=True, text=True)
    names = set(re.findall(r'^GRANT .* TO "?([A-Za-z0-9_]+)"?;$', done.stdout, re.MULTILINE))
    grafana = _grafana_password()
    for name in sorted(names - {database.user, "postgres", "PUBLIC"}):
        if superuser().query(f"select 1 from pg_roles where rolname = {literal(name)}"):
            continue
        reader = grafana if name.endswith("_grafana") else None
        superuser().query(
            f"create role {identifier(name)} login password {literal(reader or secrets.token_urlsafe(12))}"
        )
        if reader:
            run.output(f"- user '{name}' on database '{database.name}'")
        else:
            run.output(
                f"- extra user '{name}' having grants on database {database.name}, created with a random password"
            )


def _grafana_password() -> str | None:
    return shell_assignments([DWH_CONF / "10-setup-grafana-database.conf"]).get("GRAFANA_DB_PASSWORD")


def _check(run: Run, database: Database) -> None:
    """Connection, messages in English, nothing in it but extensions (reference 1.6 step 7)."""
    _connect(run, database)
    if database.query("show lc_messages") != "en_US.UTF-8":
        raise Fatal(
            "lc_messages is set to an unsupported value in postgresql.conf. Please set it to en_US.UTF-8 and restart "
            "postgresql."
        )
    if not database.is_empty():
        raise Fatal(f"Database '{database.name}' is not empty")


def _restore_database(
    run: Run, archive: Archive, family: Family, database: Database, permissions: bool
) -> None:
    """Raises Fatal."""
    prefix = "" if family.name == "engine" else f"{family.variable}_"
    custom = archive.config.get(f"{prefix}DB_DUMP_FORMAT", "custom") == "custom"
    compressor = archive.config.get(f"{prefix}DB_DUMP_COMPRESSOR", "None")
    dump = archive.member(family.scope)
    if compressor != "None":
        plain = dump.with_suffix(".unpacked")
        with plain.open("wb") as output:
            if subprocess.run([*UNPACKERS[compressor], dump], stdout=output).returncode != 0:
                raise Fatal(f"Failed restoring {database.name}")
        dump = plain
    try:
        if custom:
            jobs = ["-j", run.options.jobs[family.name]] if compressor == "None" else []
            bare = [] if permissions else ["--no-owner", "--no-privileges"]
            database.run("pg_restore", *jobs, *bare, "-d", database.name, str(dump))
        else:
            text = dump.read_text()
            database.run("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", database.name, text=text)
    except DatabaseError as error:
        run.log(str(error))
        serious = [line for line in str(error).splitlines() if "error:" in line and not HARMLESS.search(line)]
        if serious:
            raise Fatal(f"Errors while restoring database {database.name}") from error


def _after_engine(run: Run, database: Database) -> None:
    """Temporary data, the mark for setup, the Data Warehouse's flag (reference 1.6 steps 9 and 10)."""
    if not run.options.keep_temporary:
        run.output(f"  - Cleaning up temporary tables in engine database '{database.name}'")
        database.query(f"truncate {TEMPORARY}")
        there = database.query("select 1 from vdc_options where option_name = 'DbJustRestored'")
        run.output(f"  - {'Updating' if there else 'Inserting'} DbJustRestored VdcOption in engine database")
        database.query(
            "delete from vdc_options where option_name = 'DbJustRestored';"
            "insert into vdc_options (option_name, option_value) values ('DbJustRestored', '1')"
        )
        running = (
            "select 1 from dwh_history_timekeeping where var_name = 'DwhCurrentlyRunning' and var_value = '1'"
        )
        if database.query(running):
            run.output("  - Resetting DwhCurrentlyRunning in dwh_history_timekeeping in engine database")
            database.query(
                "update dwh_history_timekeeping set var_value = '0' where var_name = 'DwhCurrentlyRunning'"
            )
        run.output("  - Resetting HA VM status")
    made = database.query("select max(log_time) from audit_log where log_type = 9024")
    print(f"{LINE}\nThe engine database was backed up at {made} .\n{LINE}", flush=True)
    if "--he-remove-storage-vm" in run.options.he_remove:
        database.query("delete from vm_static where vm_name = 'HostedEngine'")
    if "--he-remove-hosts" in run.options.he_remove:
        database.query(
            "delete from vds_static where vds_id in (select vds_id from vds_statistics where ha_configured)"
        )


def _rewrite(run: Run, changed: dict[str, Database]) -> None:
    """Files of changed credentials, the old one kept beside (reference 1.4)."""
    if not changed:
        return
    engine = changed.get("engine") or run.database(FAMILIES[0])
    history = changed.get("dwh") or run.database(FAMILIES[1])
    lines = {}
    if engine is not None and "engine" in changed:
        lines[Path(FAMILIES[0].conf)] = _lines("ENGINE", engine)
    if engine is not None and history is not None:
        lines[Path(FAMILIES[1].conf)] = _lines("ENGINE", engine) + _lines("DWH", history)
        if "dwh" in changed:
            lines[ENGINE_CONF / "10-setup-dwh-database.conf"] = _lines("DWH", history)
    for path, text in lines.items():
        run.output(f"Rewriting {path}")
        if path.exists():
            shutil.copy2(path, f"{path}.{stamp()}")
        write_private(path, text)


def _lines(prefix: str, database: Database) -> str:
    return database_lines(
        prefix, database.user, database.password, database.name, database.host, database.port
    )
