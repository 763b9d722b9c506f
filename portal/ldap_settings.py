# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of django-auth-ldap from the environment. Imported only where PORTAL_LDAP_URL is set (requirements-ldap.txt)."""

from __future__ import annotations

from typing import Any

import ldap
from django.core.exceptions import ImproperlyConfigured
from django_auth_ldap.config import ActiveDirectoryGroupType, LDAPSearch, NestedGroupOfNamesType

from portal.env import envbool, envint, envsecret, envstr


def ldap_settings(url: str) -> dict[str, Any]:
    """`AUTH_LDAP_…` by name. Raises ImproperlyConfigured where something is missing or would send passwords in clear."""
    start_tls = envbool("PORTAL_LDAP_START_TLS", False)
    if url.startswith("ldap://") and not start_tls and not envbool("PORTAL_LDAP_UNENCRYPTED", False):
        raise ImproperlyConfigured(
            "PORTAL_LDAP_URL is ldap://: passwords would travel in clear. Use ldaps://, PORTAL_LDAP_START_TLS=true, "
            "or PORTAL_LDAP_UNENCRYPTED=true for a directory on this machine."
        )
    people = envstr("PORTAL_LDAP_PEOPLE")
    if not people:
        raise ImproperlyConfigured("PORTAL_LDAP_PEOPLE must name the entry below which people are found.")
    settings = {
        "AUTH_LDAP_SERVER_URI": url,
        "AUTH_LDAP_START_TLS": start_tls,
        "AUTH_LDAP_BIND_DN": envstr("PORTAL_LDAP_BIND_DN"),
        "AUTH_LDAP_BIND_PASSWORD": envsecret("PORTAL_LDAP_BIND_PASSWORD"),
        "AUTH_LDAP_USER_SEARCH": LDAPSearch(
            people, ldap.SCOPE_SUBTREE, envstr("PORTAL_LDAP_PEOPLE_FILTER", "(uid=%(user)s)")
        ),
        "AUTH_LDAP_USER_ATTR_MAP": {"first_name": "givenName", "last_name": "sn", "email": "mail"},
        "AUTH_LDAP_NO_NEW_USERS": not envbool("PORTAL_LDAP_NEW_PEOPLE", True),
        "AUTH_LDAP_CONNECTION_OPTIONS": _connection_options(envint("PORTAL_LDAP_TIMEOUT", 5, minimum=1)),
    }
    return {**settings, **_group_settings(envstr("PORTAL_LDAP_GROUPS"))}


def _connection_options(seconds: int) -> dict[int, Any]:
    options: dict[int, Any] = {
        ldap.OPT_NETWORK_TIMEOUT: seconds,
        ldap.OPT_TIMEOUT: seconds,
        ldap.OPT_REFERRALS: 0,
    }
    if ca_file := envstr("PORTAL_LDAP_CA_FILE"):
        options[ldap.OPT_X_TLS_CACERTFILE] = ca_file
    options[ldap.OPT_X_TLS_REQUIRE_CERT] = ldap.OPT_X_TLS_DEMAND
    # Takes the options above into use; must be the last.
    options[ldap.OPT_X_TLS_NEWCTX] = 0
    return options


def _group_settings(groups: str) -> dict[str, Any]:
    if not groups:
        return {}
    active_directory = envbool("PORTAL_LDAP_ACTIVE_DIRECTORY", False)
    default = "(objectClass=group)" if active_directory else "(objectClass=groupOfNames)"
    return {
        "AUTH_LDAP_GROUP_SEARCH": LDAPSearch(
            groups, ldap.SCOPE_SUBTREE, envstr("PORTAL_LDAP_GROUPS_FILTER", default)
        ),
        "AUTH_LDAP_GROUP_TYPE": ActiveDirectoryGroupType() if active_directory else NestedGroupOfNamesType(),
    }
