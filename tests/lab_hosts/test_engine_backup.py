# SPDX-License-Identifier: GPL-3.0-or-later
"""engine-backup of the lab's Manager machine against the Manager host reference, section 1."""

import io
import tarfile
from pathlib import Path

import pytest

from lab.hosts.commands.archive_reader import acceptable
from tests.lab_hosts.support import Shell
from tests.lab_support import RunningLab

HEADER = "Start of engine-backup with mode 'backup'\nscope: {}\narchive file: {}\nlog file: {}\n"


def members(shell: Shell, path: str) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(Path(shell.host.root + path), "r:*") as tar:
        return {member.name: member for member in tar}


def test_a_full_backup_prints_its_stages_and_leaves_the_archive_as_laid_down(shell: Shell) -> None:
    out = shell.ok("engine-backup --file=/var/tmp/full --log=/var/tmp/full.log")
    stages = [
        "Backing up:",
        "Notifying engine",
        "- Files",
        "- Engine database 'engine'",
        "- DWH database 'ovirt_engine_history'",
        "- Grafana database '/var/lib/grafana/grafana.db'",
        "Packing into file '/var/tmp/full'",
        "Notifying engine",
        "Done.",
    ]
    assert out == HEADER.format("all", "/var/tmp/full", "/var/tmp/full.log") + "\n".join(stages) + "\n"
    found = members(shell, "/var/tmp/full")
    expected = (
        "version os_version config files db db/engine_backup.db db/dwh_backup.db db/grafana.db sha256sum"
    )
    assert set(found) == {".", *(f"./{name}" for name in expected.split())}
    assert Path(shell.host.root + "/var/tmp/full").stat().st_mode & 0o777 == 0o600
    log = Path(shell.host.root + "/var/tmp/full.log").read_text()
    assert "OUTPUT: Done.\n" in log and "password" not in log.lower()
    with tarfile.open(shell.host.root + "/var/tmp/full") as tar:
        files = tar.extractfile("./files")
        assert files is not None
        with tarfile.open(fileobj=io.BytesIO(files.read()), mode="r:xz") as inner:
            names = inner.getnames()
    assert "etc/ovirt-engine/engine.conf.d/10-setup-database.conf" in names
    assert not any(name.startswith("/") for name in names)


def test_the_options_stop_at_an_empty_argument_and_take_no_space(shell: Shell) -> None:
    code, out, _ = shell('engine-backup --file=/var/tmp/empty "" --mode=restore')
    assert code == 0 and out.startswith("Start of engine-backup with mode 'backup'")
    code, out, err = shell("engine-backup --mode backup")
    assert (code, out) == (1, "")
    assert err.startswith("FATAL: Unknown option '--mode'. Please see '--help' for details.")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("--mode=show", "invalid mode"),
        ("--scope=everything", "invalid scope 'everything'"),
        ("--mode=restore", "--file is missing"),
        ("--mode=restore --file=/nowhere", "/nowhere does not exist"),
        ("--file=/var/tmp/x --log=/var/tmp/x", "--file and --log can not be the same"),
        ("--tmpdir=/nowhere", "Temporary directory /nowhere is missing or not a directory"),
        ("--he-remove-hosts", "hosted-engine cleaning options work only in restore mode"),
        (
            "--mode=restore --file=/etc/hosts --change-db-credentials --db-host=localhost",
            "--db-user is missing",
        ),
        (
            "--mode=restore --file=/etc/hosts --db-host=h",
            "Please use --change-db-credentials to change engine db credentials",
        ),
        (
            "--mode=restore --file=/etc/hosts --provision-db --change-db-credentials",
            "Cannot change credentials if provisioning a database",
        ),
        (
            "--mode=restore --file=/etc/hosts --change-db-credentials --db-host=h --db-user=u --db-name=n --db-password",
            "Standard input is not a terminal",
        ),
    ],
)
def test_mistakes_are_told_on_the_first_line_of_stderr(shell: Shell, arguments: str, text: str) -> None:
    code, _, err = shell(f"engine-backup {arguments}")
    assert code == 1
    assert err.splitlines()[0] == f"FATAL: {text}"


def test_a_plain_dump_cannot_be_verified_and_a_custom_one_can(shell: Shell) -> None:
    shell.ok(
        "engine-backup --scope=db --file=/var/tmp/custom && engine-backup --small-size --file=/var/tmp/plain"
    )
    out = shell.ok("engine-backup --mode=verify --file=/var/tmp/custom")
    assert out.endswith("- Unpacking file '/var/tmp/custom'\n- Engine database 'engine'\nDone.\n")
    code, _, err = shell("engine-backup --mode=verify --file=/var/tmp/plain")
    assert code == 1 and "FATAL: Errors while running pg_restore" in err
    code, _, err = shell(
        "engine-backup --mode=verify --file=/var/tmp/none; test -e /var/tmp/none && echo made"
    )
    assert "cannot open " in err


def test_a_damaged_archive_fails_its_checksum(shell: Shell) -> None:
    shell.ok("engine-backup --scope=files --archive-compressor=None --file=/var/tmp/bad")
    path = Path(shell.host.root + "/var/tmp/bad")
    data = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        offset = tar.getmember("./files").offset_data
    data[offset + 40] ^= 1
    path.write_bytes(data)
    code, _, err = shell("engine-backup --mode=verify --file=/var/tmp/bad")
    assert code == 1 and "FATAL: Checksum verification failed" in err


def test_drop_ins_add_paths(shell: Shell) -> None:
    folder = "/etc/ovirt-engine-backup/engine-backup-config.d"
    line = 'BACKUP_PATHS="${BACKUP_PATHS}\n/etc/chrony.conf"'
    shell.ok(f"mkdir -p {folder} && cat > {folder}/chrony.sh <<'END'\n{line}\nEND")
    shell.ok("engine-backup --scope=files --files-compressor=None --file=/var/tmp/dropin")
    listing = shell.ok("tar -xOf /var/tmp/dropin ./files | tar -t; rm -r " + folder)
    assert "etc/chrony.conf" in listing.splitlines()


def test_the_engine_sees_its_backups(hosts_lab: RunningLab, shell: Shell) -> None:
    shell.ok("engine-backup --scope=db --scope=files --file=/var/tmp/seen --log=/var/tmp/seen.log")
    rows = shell.ok(
        "psql -h /run/postgresql -U postgres -d engine -Atc "
        "\"select log_type, message from audit_log where message like '%/var/tmp/seen.log' order by 1, 2\""
    )
    expected = [
        f"{code}|engine-backup: Backup {what}, scope={scope}, log=/var/tmp/seen.log"
        for code, what in ((9024, "Started"), (9025, "Finished"))
        for scope in ("db", "files")
    ]
    assert rows.splitlines() == expected


def test_a_database_that_is_down_fails_even_files(shell: Shell, hosts_lab: RunningLab) -> None:
    hosts_lab.control.act("host_service", state="stop")
    try:
        code, _, err = shell("engine-backup --scope=files --file=/var/tmp/down")
    finally:
        hosts_lab.control.act("host_service", state="start")
    assert code == 1 and "FATAL: Failed notifying engine" in err
    assert Path(shell.host.root + "/var/tmp/down").stat().st_size == 0


def test_killed_in_the_middle_and_a_full_disk(shell: Shell, hosts_lab: RunningLab) -> None:
    with hosts_lab.control.fault("host_command", command="engine-backup", line="- DWH*", how="kill") as fault:
        code, out, _ = shell("engine-backup --file=/var/tmp/killed")
        assert fault.struck == 1
    assert code != 0 and "Done." not in out
    assert shell.ok("ls -d /tmp/engine-backup.*").strip()
    with hosts_lab.control.fault("host_command", line="- DWH*", how="term"):
        shell("rm -r /tmp/engine-backup.*; engine-backup --file=/var/tmp/ended")
    assert shell.ok("ls -d /tmp/engine-backup.* 2>/dev/null; stat -c %s /var/tmp/ended") == "0\n"
    hosts_lab.control.act("fill_host_disk", folder="/tmp", bytes=100 << 10)
    code, out, _ = shell("engine-backup --file=/var/tmp/nospace")
    hosts_lab.control.act("free_host_disk", folder="/tmp")
    assert code == 1 and "ERROR: Low free space on /tmp: " in out


@pytest.mark.parametrize("made", ["4.4.10.7", "4.3.11", "4.5.6.1", "4.5.7"])
def test_versions_that_may_be_restored(made: str) -> None:
    assert acceptable(made, "4.5.7")


@pytest.mark.parametrize("made", ["4.3.9.4", "4.5.8", "4.5.10", "4.6.0", "4.5.7_master"])
def test_versions_that_may_not(made: str) -> None:
    assert not acceptable(made, "4.5.7")
