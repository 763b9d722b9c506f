# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration that engine-setup leaves behind (reference sections 1.12, 2.2 and 4)."""

import os
import secrets
import uuid
from collections.abc import Mapping
from pathlib import Path

from lab.hosts.commands.common import DWH_CONF, ENGINE_CONF, POST_FILE, write_private

# The state that says what is set up here; the values are otopi's, with their types.
POST = {
    "OVESETUP_DIALOG/confirmSettings": "bool:True",
    "OVESETUP_CONFIG/applicationMode": "str:both",
    "OVESETUP_CONFIG/storageIsLocal": "bool:False",
    "OVESETUP_CONFIG/updateFirewall": "bool:True",
    "OVESETUP_ENGINE_CORE/enable": "bool:True",
    "OVESETUP_DWH_CORE/enable": "bool:True",
    "OVESETUP_DWH_CONFIG/remoteEngineConfigured": "bool:False",
    "OVESETUP_DWH_CONFIG/scale": "str:1",
    "OVESETUP_GRAFANA_CORE/enable": "bool:True",
    "OVESETUP_CONFIG/keycloakEnable": "bool:False",
    "OVESETUP_CL_DB/enable": "bool:False",
    "OVESETUP_PROVISIONING/postgresProvisioningEnabled": "bool:True",
}
PKI = Path("/etc/pki/ovirt-engine")


def write_all(fqdn: str, version: str, passwords: Mapping[str, str]) -> None:
    """Everything but databases."""
    write_engine(passwords["engine"])
    write_dwh(passwords["dwh"], passwords["engine"])
    write_post(fqdn, version, {})
    write_rest(fqdn)
    write_pki(fqdn)


def database_lines(
    prefix: str, user: str, password: str, name: str, host: str = "localhost", port: str = "5432"
) -> str:
    """The nine lines of one database, the values quoted for the shell."""
    quoted = "".join(f"\\{c}" if c in '"$\\' else c for c in password)
    return (
        f'{prefix}_DB_HOST="{host}"\n{prefix}_DB_PORT="{port}"\n{prefix}_DB_USER="{user}"\n'
        f'{prefix}_DB_PASSWORD="{quoted}"\n{prefix}_DB_DATABASE="{name}"\n{prefix}_DB_SECURED="False"\n'
        f'{prefix}_DB_SECURED_VALIDATION="False"\n{prefix}_DB_DRIVER="org.postgresql.Driver"\n'
        f'{prefix}_DB_URL="jdbc:postgresql://{host}:{port}/{name}?sslfactory=org.postgresql.ssl.NonValidatingFactory"\n'
    )


def write_engine(password: str) -> None:
    write_private(
        ENGINE_CONF / "10-setup-database.conf", database_lines("ENGINE", "engine", password, "engine")
    )


def write_dwh(password: str, engine_password: str) -> None:
    both = database_lines("ENGINE", "engine", engine_password, "engine")
    history = database_lines("DWH", "ovirt_engine_history", password, "ovirt_engine_history")
    write_private(DWH_CONF / "10-setup-database.conf", both + history)
    write_private(ENGINE_CONF / "10-setup-dwh-database.conf", history)
    reader = f'GRAFANA_DB_USER="ovirt_engine_history_grafana"\nGRAFANA_DB_PASSWORD="{secrets.token_hex(8)}"\n'
    write_private(DWH_CONF / "10-setup-grafana-database.conf", reader)
    (DWH_CONF / "10-setup-uuid.conf").write_text(f'DWH_UUID="{uuid.uuid4()}"\n')
    (DWH_CONF / "10-setup-scale.conf").write_text('DWH_SCALE="Basic"\n')


def write_post(fqdn: str, version: str, more: Mapping[str, str]) -> None:
    """20-setup-ovirt-post.conf: its presence means that setup has run (reference 2.2)."""
    lines = {
        **POST,
        "OVESETUP_CONFIG/fqdn": f"str:{fqdn}",
        "OVESETUP_CORE/generatedByVersion": f"str:{version}",
        **more,
    }
    POST_FILE.parent.mkdir(parents=True, exist_ok=True)
    POST_FILE.write_text("[environment:default]\n" + "".join(f"{k}={v}\n" for k, v in lines.items()))


def write_rest(fqdn: str) -> None:
    (ENGINE_CONF / "10-setup-protocols.conf").write_text(
        f"ENGINE_FQDN={fqdn}\nENGINE_PROXY_ENABLED=true\nENGINE_HTTPS_ENABLED=false\n"
    )
    plain = {
        "/etc/ovirt-engine/extensions.d/internal-authn.properties": "ovirt.engine.extension.name = internal-authn\n",
        "/etc/ovirt-engine/uninstall.d/20240101000000-uninstall.conf": "[environment:default]\n",
        "/etc/httpd/conf.d/ovirt-engine-root-redirect.conf": "RedirectMatch ^/$ /ovirt-engine/\n",
        "/etc/grafana/grafana.ini": "[server]\nroot_url = /ovirt-engine-grafana/\n",
        "/var/lib/ovirt-engine/content/readme": "content\n",
        "/var/lib/ovirt-engine/backups/.keep": "",
    }
    for name, text in plain.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def write_pki(fqdn: str) -> None:
    """Keys of this machine's own, random: nothing in the lab's host is signed by them."""
    for name in ("private/ca.pem", "keys/engine.p12", "keys/apache.key.nopass", "keys/engine_id_rsa"):
        write_private(PKI / name, f"lab key of {fqdn}\n{os.urandom(48).hex()}\n")
    for name in ("ca.pem", "certs/engine.cer", "certs/apache.cer"):
        path = PKI / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"lab certificate of {fqdn}\n")
