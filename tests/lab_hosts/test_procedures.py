# SPDX-License-Identifier: GPL-3.0-or-later
"""Clean-up, restore and setup on the lab's Manager machine (reference sections 1.6 to 1.8 and 2), in their order."""

from pathlib import Path

import pytest

from tests.lab_hosts.support import Shell
from tests.lab_support import RunningLab

ANSWERS = "[environment:default]\nOVESETUP_CORE/remove=bool:True\nOVESETUP_CORE/engineStop=bool:True\n"
ROWS = "psql -h /run/postgresql -U postgres -d engine -Atc 'select count(*) from images'"


@pytest.fixture
def archive(shell: Shell) -> str:
    """A full archive of the machine as it is."""
    shell.ok("rm -f /var/tmp/whole && engine-backup --file=/var/tmp/whole")
    shell.ok(f"cat > /root/clean.conf <<'END'\n{ANSWERS}END")
    return "/var/tmp/whole"


def setup(shell: Shell) -> str:
    return shell.ok("engine-setup --accept-defaults --offline </dev/null")


def restore(shell: Shell, archive: str, *options: str) -> tuple[int, str, str]:
    return shell(f"engine-backup --mode=restore --file={archive} {' '.join(options)}")


def test_over_an_existing_installation(shell: Shell, archive: str) -> None:
    code, _, err = restore(shell, archive, "--restore-permissions")
    assert code == 1 and err.startswith("FATAL: Engine service is active - can not restore backup")
    code, out, _ = shell("engine-cleanup </dev/null")
    assert code == 1 and "Failed to execute stage" in out
    shell.ok("systemctl stop ovirt-engine")
    code, _, err = restore(shell, archive, "--restore-permissions")
    assert code == 1 and err.startswith("FATAL: Database 'engine' is not empty")
    out = shell.ok("engine-cleanup --config-append=/root/clean.conf </dev/null")
    for text in ("PKI configuration and keys is", "the Engine database is", "the DWH database is"):
        assert f"[ INFO  ] A backup of {text} available at /var/lib/" in out
    assert out.endswith("[ INFO  ] Execution of cleanup completed successfully\n")
    code, out, _ = shell("engine-cleanup --config-append=/root/clean.conf </dev/null")
    assert code == 11 and "Could not detect product setup" in out
    code, _, err = restore(shell, archive)
    assert code == 1 and err.startswith("FATAL: Please pass one of --restore-permissions or --no-restore")
    code, out, _ = restore(shell, archive, "--restore-permissions")
    assert code == 0
    assert out.splitlines()[-2:] == ["You should now run engine-setup.", "Done."]
    assert "  - Inserting DbJustRestored VdcOption in engine database" in out.splitlines()
    out = setup(shell)
    assert "Web access is enabled at:" in out
    assert out.endswith("[ INFO  ] Execution of setup completed successfully\n")
    assert shell.ok(f"{ROWS}; systemctl is-active ovirt-engine") == "2000\nactive\n"


@pytest.mark.slow
def test_on_a_machine_without_databases(shell: Shell, archive: str) -> None:
    shell.ok("engine-cleanup --config-append=/root/clean.conf </dev/null")
    code, _, err = restore(shell, archive, "--provision-all-databases")
    assert code == 0, err  # an existing role with an empty database is taken
    drop = "; ".join(
        [
            *(f"drop database {name}" for name in ("engine", "ovirt_engine_history")),
            *(f"drop role {name}" for name in ("engine", "ovirt_engine_history")),
            *(f"drop role {name}" for name in ("inventory_reader", "ovirt_engine_history_grafana")),
        ]
    )
    commands = " ".join(f'-c "{word}"' for word in drop.split("; "))
    shell.ok(f"psql -h /run/postgresql -U postgres {commands}")
    code, out, err = restore(shell, archive, "--provision-all-databases")
    assert code == 0, err
    lines = out.splitlines()
    start = lines.index("Provisioning PostgreSQL users/databases:")
    random = "having grants on database engine, created with a random password"
    assert lines[start + 1 : start + 6] == [
        "- user 'engine', database 'engine'",
        f"- extra user 'inventory_reader' {random}",
        "- user 'ovirt_engine_history', database 'ovirt_engine_history'",
        "- user 'ovirt_engine_history_grafana' on database 'ovirt_engine_history'",
        "Restoring:",
    ]
    setup(shell)
    assert shell.ok(ROWS) == "2000\n"


@pytest.mark.slow
def test_with_other_credentials(shell: Shell, archive: str) -> None:
    shell.ok("engine-cleanup --config-append=/root/clean.conf </dev/null")
    secret = "n'e\"w $p\\w"
    shell.ok(f"umask 077; cat > /root/pass <<'END'\n{secret}\nEND")
    change = ("--change-db-credentials", "--db-host=localhost", "--db-user=engine", "--db-name=engine")
    code, _, err = restore(shell, archive, *change, "--db-passfile=/root/pass", "--no-restore-permissions")
    assert code == 1
    assert (
        err.splitlines()[0]
        == "FATAL: Can't connect to database 'engine'. Please see '/usr/bin/engine-backup --help'."
    )
    quoted = secret.replace("'", "''")
    shell.ok(f"psql -h /run/postgresql -U postgres <<'END'\nalter role engine password '{quoted}'\nEND")
    code, out, err = restore(shell, archive, *change, "--db-passfile=/root/pass", "--no-restore-permissions")
    assert code == 0, err
    assert "Rewriting /etc/ovirt-engine/engine.conf.d/10-setup-database.conf" in out.splitlines()
    setup(shell)
    assert shell.ok("rm /root/pass; ls /etc/ovirt-engine/engine.conf.d/10-setup-database.conf.*").strip()
    assert shell.ok("engine-backup --scope=db --file=/var/tmp/after").endswith("Done.\n")


def test_what_a_restore_refuses(shell: Shell, archive: str, hosts_lab: RunningLab) -> None:
    shell.ok("systemctl stop ovirt-engine")
    hosts_lab.control.act("host_version", version="4.5.6")
    code, _, err = restore(shell, archive, "--restore-permissions")
    hosts_lab.control.act("host_version", version="4.5.7")
    assert code == 1
    said = "Backup was created by version '4.5.7' and can not be restored using the installed version 4.5.6"
    assert err == f"FATAL: {said}\n"
    hosts_lab.control.act("break_database", how="password")
    code, _, err = restore(shell, archive, "--restore-permissions")
    assert code == 1 and err.startswith("FATAL: Can't connect to database 'engine'.")
    code, out, _ = shell("engine-setup --accept-defaults --offline </dev/null")
    assert code == 1
    assert "Cannot connect to Engine database using existing credentials: engine@localhost:5432" in out
    conf = Path(shell.host.root + "/etc/ovirt-engine/engine.conf.d/10-setup-database.conf")
    assert conf.stat().st_mode & 0o777 == 0o600
    hosts_lab.control.act("break_database", how="password_back")
    setup(shell)


def test_a_hosted_engine_needs_global_maintenance(shell: Shell) -> None:
    sql = (
        "insert into vm_static values (gen_random_uuid(), 'HostedEngine');"
        "insert into vm_dynamic select vm_guid, 1, gen_random_uuid() from vm_static where vm_name = 'HostedEngine';"
        "insert into vds_statistics select run_on_vds, true, true from vm_dynamic"
    )
    psql = "psql -h /run/postgresql -U postgres -d engine -q"
    shell.ok(f'{psql} -c "{sql}"')
    code, out, _ = shell("engine-setup --accept-defaults --offline </dev/null")
    assert code == 1 and 'are not in "Global Maintenance" mode' in out
    assert "Hosted Engine setup detected, but Global Maintenance is not set." in out
    shell.ok(f"{psql} -c 'update vds_statistics set ha_global_maintenance = true'")
    code, out, _ = shell("echo ok | engine-cleanup")
    shell.ok(f"{psql} -c \"delete from vm_static where vm_name = 'HostedEngine'\"")
    assert code == 1 and "Hosted Engine HA is in Global Maintenance mode." in out
