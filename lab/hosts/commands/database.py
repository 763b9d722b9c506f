# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's databases through PostgreSQL's own clients."""

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

SOCKET = "/var/run/postgresql"
# Everything that a restore must not find (reference 1.6 step 7: nothing but extensions).
CONTENT = """
select count(*) from (
  select c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
      and not exists (select 1 from pg_depend d where d.objid = c.oid and d.deptype = 'e')
  union all
  select p.oid from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
      and not exists (select 1 from pg_depend d where d.objid = p.oid and d.deptype = 'e')) as content
"""


class DatabaseError(Exception):
    """PostgreSQL's client ended with another code than 0; the text is its standard error."""


@dataclass(frozen=True)
class Database:
    """Where a database is and who opens it. An empty `host` is the socket."""

    host: str
    port: str
    user: str
    password: str
    name: str

    def run(self, *argv: str, text: str | None = None, folder: str | None = None) -> str:
        """A client with these arguments, its password in a file. Raises DatabaseError."""
        with tempfile.NamedTemporaryFile("w", prefix=".pgpass", dir=folder) as passfile:
            passfile.write(f"*:*:*:*:{_escaped(self.password)}\n")
            passfile.flush()
            environment = {**os.environ, "PGPASSFILE": passfile.name, "LC_ALL": "C"}
            where = ["-w", "-h", self.host or SOCKET, "-p", self.port, "-U", self.user]
            done = subprocess.run(
                [argv[0], *where, *argv[1:]], input=text, text=True, capture_output=True, env=environment
            )
        if done.returncode != 0:
            raise DatabaseError(done.stderr.strip())
        return done.stdout

    def query(self, sql: str) -> str:
        """The answer without headings, fields apart by `|`. Raises DatabaseError."""
        options = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", self.name]
        return self.run("psql", *options, text=sql).strip()

    def is_empty(self) -> bool:
        return self.query(CONTENT) == "0"


def superuser(name: str = "postgres") -> Database:
    """As the administrator of the host's own server."""
    return Database("", "5432", "postgres", "", name)


def configured(values: dict[str, str], prefix: str) -> Database | None:
    """`PREFIX_DB_*` of the configuration; None without a user."""
    if not values.get(f"{prefix}_DB_USER"):
        return None
    get = values.get
    return Database(
        get(f"{prefix}_DB_HOST", "localhost"),
        get(f"{prefix}_DB_PORT", "5432"),
        values[f"{prefix}_DB_USER"],
        get(f"{prefix}_DB_PASSWORD", ""),
        get(f"{prefix}_DB_DATABASE", ""),
    )


def provision(user: str, password: str, name: str) -> None:
    """A role and an empty database of its own, ready for connections from anywhere (reference 1.7)."""
    if not superuser().query(f"select 1 from pg_roles where rolname = {literal(user)}"):
        superuser().query(f"create role {identifier(user)} login")
    superuser().query(f"alter role {identifier(user)} with login password {literal(password)}")
    if not superuser().query(f"select 1 from pg_database where datname = {literal(name)}"):
        superuser().query(
            f"create database {identifier(name)} owner {identifier(user)} template template0 encoding 'UTF8'"
        )
    admit(name, user)
    superuser(name).query('create extension if not exists "uuid-ossp"')


def admit(name: str, user: str) -> None:
    """The two lines of pg_hba.conf that setup adds (reference 1.7)."""
    hba = Path("/var/lib/pgsql/data/pg_hba.conf")
    text = hba.read_text()
    lines = [f"host {name} {user} {net} scram-sha-256" for net in ("0.0.0.0/0", "::0/0")]
    new = "".join(f"{line}\n" for line in lines if line not in text)
    if new:
        hba.write_text(text + new)
        superuser().query("select pg_reload_conf()")


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def identifier(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _escaped(password: str) -> str:
    return password.replace("\\", "\\\\").replace(":", "\\:")
