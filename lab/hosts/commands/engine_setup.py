# SPDX-License-Identifier: GPL-3.0-or-later
"""engine-setup of a lab host (reference 2.1 to 2.4): after a restore, over an existing one, and on a blank machine."""

import secrets
import socket
import sys

from lab.hosts.commands import first_day, guard, postgres, services
from lab.hosts.commands.common import (
    DATA,
    DWH_CONF,
    ENGINE_CONF,
    POST_FILE,
    engine_config,
    packages,
    setup_state,
)
from lab.hosts.commands.database import Database, DatabaseError, configured, literal, provision
from lab.hosts.commands.files import PKI, write_dwh, write_engine, write_pki, write_post, write_rest
from lab.hosts.commands.otopi import Abort, Otopi, must_be_root

OPTIONS = {
    "--log": True, "--config": True, "--config-append": True, "--generate-answer": True, "--otopi-environment": True,
    "--jboss-home": True, "--offline": False, "--accept-defaults": False, "--reconfigure-optional-components": False,
    "--reconfigure-dwh-scale": False,
}  # fmt: skip


class Setup:
    """What a run finds and decides."""

    def __init__(self, otopi: Otopi) -> None:
        self.otopi = otopi
        self.version, self.release = packages()["ovirt-engine-setup"]
        self.was_set_up = POST_FILE.exists()
        self.engine: Database | None = None
        self.dwh: Database | None = None

    def customize(self) -> None:
        """The questions of reference 2.3, in its order. Raises Abort."""
        ask = self.otopi.ask
        if (
            not self.was_set_up
            and ask(
                "OVESETUP_ENGINE_ENABLE",
                "Configure Engine on this host (Yes, No)",
                "OVESETUP_ENGINE_CORE/enable",
                "False",
            )
            != "True"
        ):
            raise Abort("The engine is not to be configured on this host")  # inferred: the text
        state = {**setup_state(), **self.otopi.environment}
        if state.get("OVESETUP_DWH_CORE/enable") is None:
            ask(
                "OVESETUP_DWH_ENABLE",
                "Configure Data Warehouse on this host (Yes, No)",
                "OVESETUP_DWH_CORE/enable",
                "True",
            )
        if "--offline" not in self.otopi.flags:
            text = "Do you wish to update them now? (Yes, No)"
            if (
                ask("OVESETUP_RPMDISTRO_PACKAGE_UPGRADE", text, "OSETUP_RPMDISTRO/enableUpgrade", "True")
                != "True"
            ):
                raise Abort("Aborted by user")
        ask(
            "OVESETUP_UPDATE_FIREWALL",
            "Do you want Setup to configure the firewall? (Yes, No)",
            "OVESETUP_CONFIG/updateFirewall",
            "True",
        )
        if not self.was_set_up:
            name = "Host fully qualified DNS name of this server"
            ask("OVESETUP_NETWORK_FQDN_this", name, "OVESETUP_CONFIG/fqdn", socket.gethostname())
            ask("OVESETUP_CONFIG_ADMIN_SETUP", "Engine admin password", "OVESETUP_CONFIG/adminPassword", None)
        elif self._dwh_holds_data():
            text = "Would you like to backup the existing database before upgrading it? (Yes, No)"
            ask("OVESETUP_DWH_PERFORM_BACKUP", text, "OVESETUP_DWH_DB/performBackup", "True")
            ask(
                "OVESETUP_DWH_VACUUM_FULL",
                "Perform full vacuum on the DWH database? (Yes, No)",
                "OVESETUP_DB/dwhVacuumFull",
                "False",
            )
            ask(
                "OVESETUP_ENGINE_VACUUM_FULL",
                "Perform full vacuum on the engine database? (Yes, No)",
                "OVESETUP_DB/engineVacuumFull",
                "False",
            )
        if services.state("ovirt-engine") == "active":
            text = "During execution engine service will be stopped (OK, Cancel)"
            if ask("OVESETUP_CORE_ENGINE_STOP", text, "OVESETUP_CORE/engineStop", "True") != "True":
                raise Abort("Aborted by user")

    def _dwh_holds_data(self) -> bool:
        found = configured(engine_config(), "DWH")
        try:
            return found is not None and not found.is_empty()
        except DatabaseError:
            return False

    def validate(self) -> None:
        """Credentials that are configured have to work; the guard of 2.4. Raises Abort."""
        config = engine_config()
        self.engine, self.dwh = configured(config, "ENGINE"), configured(config, "DWH")
        for name, database in (("Engine", self.engine), ("DWH", self.dwh)):
            if database is None:
                continue
            try:
                database.query("select 1")
            except DatabaseError as error:
                where = f"{database.user}@{database.host}:{database.port}"
                self.otopi.log(str(error))
                raise Abort(
                    f"Cannot connect to {name} database using existing credentials: {where}"
                ) from error
        if self.engine is not None:
            guard.check(self.otopi, self.engine)
        text = "Please confirm installation settings (OK, Cancel)"
        if (
            self.otopi.ask(
                "OVESETUP_DIALOG_CONFIRM_SETTINGS", text, "OVESETUP_DIALOG/confirmSettings", "True"
            )
            != "True"
        ):
            raise Abort("Aborted by user")

    def apply(self) -> None:
        """Databases, schemas, configuration. Raises Abort."""
        services.stop("ovirt-engine")
        services.stop("ovirt-engine-dwhd")
        try:
            if self.engine is None:
                self._provision()
            assert self.engine is not None
            if (
                self.engine.is_empty()
                or self.engine.query("select to_regclass('vdc_options') is null") == "t"
            ):
                self.otopi.info("Creating/refreshing Engine database schema")
                self.engine.query(first_day.schema("engine"))
            self.engine.query(
                "delete from vdc_options where option_name in ('ProductRPMVersion', 'DbJustRestored');"
                "insert into vdc_options (option_name, option_value) values "
                f"('ProductRPMVersion', {literal(f'{self.version}-{self.release}')})"
            )
            if self.dwh is not None and self.dwh.is_empty():
                self.dwh.query(first_day.schema("history"))
        except (DatabaseError, RuntimeError) as error:
            self.otopi.log(str(error))
            raise Abort(str(error).splitlines()[0]) from error

    def _provision(self) -> None:
        """Databases on this machine, as a fresh setup does by itself."""
        self.otopi.info("Creating PostgreSQL 'engine' database")
        if not (DATA / "PG_VERSION").exists():
            postgres.initialise()
        services.enable("postgresql")
        services.start("postgresql")
        passwords = {"engine": secrets.token_urlsafe(12), "dwh": secrets.token_urlsafe(12)}
        provision("engine", passwords["engine"], "engine")
        write_engine(passwords["engine"])
        if self.otopi.value("OVESETUP_DWH_CORE/enable", "True") == "True":
            provision("ovirt_engine_history", passwords["dwh"], "ovirt_engine_history")
            write_dwh(passwords["dwh"], passwords["engine"])
        config = engine_config()
        self.engine, self.dwh = configured(config, "ENGINE"), configured(config, "DWH")

    def close(self) -> None:
        """Files, services, and the two URLs."""
        state = setup_state()
        fqdn = self.otopi.value(
            "OVESETUP_CONFIG/fqdn", state.get("OVESETUP_CONFIG/fqdn", socket.gethostname())
        )
        if not (PKI / "ca.pem").exists():
            write_pki(fqdn)
        if not (ENGINE_CONF / "10-setup-protocols.conf").exists():
            write_rest(fqdn)
        write_post(fqdn, self.version, {})
        services.enable("ovirt-engine")
        try:
            services.start("ovirt-engine")
            if (DWH_CONF / "10-setup-database.conf").exists():
                services.enable("ovirt-engine-dwhd")
                services.start("ovirt-engine-dwhd")
            services.start("httpd")
        except services.UnitFailed as error:
            raise Abort(str(error)) from error
        print("          Web access is enabled at:", flush=True)
        print(
            f"              http://{fqdn}:80/ovirt-engine\n              https://{fqdn}:443/ovirt-engine",
            flush=True,
        )


def main() -> int:
    if not must_be_root():
        return 1
    otopi = Otopi("setup", "setup", OPTIONS)
    try:
        otopi.parse(sys.argv[1:])
    except Abort as error:
        print(error, file=sys.stderr)
        return 1
    setup = Setup(otopi)
    return otopi.run(
        {
            "Environment customization": setup.customize,
            "Setup validation": setup.validate,
            "Misc configuration": setup.apply,
            "Closing up": setup.close,
        }
    )


if __name__ == "__main__":
    sys.exit(main())
