# SPDX-License-Identifier: GPL-3.0-or-later
"""Signing in by an LDAP directory. Imported only where one is set up (ldap_settings.py)."""

from __future__ import annotations

from typing import Any

import ldap
from django.dispatch import receiver
from django_auth_ldap.backend import LDAPBackend, ldap_error

from portal.accounts import groups
from portal.accounts.models import KnownGroups, User
from portal.audit import services as audit
from portal.errors import PortalError

SOURCE = "ldap"
_AWAY = (ldap.SERVER_DOWN, ldap.CONNECT_ERROR, ldap.TIMEOUT, ldap.UNAVAILABLE, ldap.BUSY)


class DirectoryUnreachable(PortalError):
    """The LDAP directory does not answer, or refuses the portal's own account."""

    status = 503
    retryable = True


class DirectoryBackend(LDAPBackend):
    """Asked after the passwords kept here, and only where an attempt is allowed (attempts.py)."""

    def authenticate_ldap_user(self, ldap_user: Any, password: str) -> User | None:
        person: User | None = super().authenticate_ldap_user(ldap_user, password)
        if person is None or not person.is_active:
            return None
        if not person.known_groups.filter(source=SOURCE).exists():
            audit.record("person.add", actor=None, via=SOURCE, subject=person)
        groups.signed_in(person, source=SOURCE, names=_group_names(ldap_user), via=SOURCE)
        return person

    def get_or_build_user(self, username: str, ldap_user: Any) -> tuple[User, bool]:
        """An account that did not come from the directory is never taken over by its name."""
        person, built = super().get_or_build_user(username, ldap_user)
        if built:
            return person, True
        if not KnownGroups.objects.filter(user=person, source=SOURCE).exists():
            raise ldap_user.AuthenticationFailed("the account here is not of the directory")
        return person, False

    def get_user(self, user_id: int) -> User | None:
        """The session of somebody switched off ends at once."""
        person = User.objects.filter(pk=user_id).first()
        return person if person is not None and person.is_active and not person.is_service else None


def _group_names(ldap_user: Any) -> set[str]:
    return set(ldap_user.group_names) if ldap_user.settings.GROUP_SEARCH else set()


@receiver(ldap_error)
def say_that_it_is_away(context: str, exception: Exception, **_: Any) -> None:
    """Else it would look like a wrong password. What one person's own bind is refused for stays a refusal."""
    if context == "search_for_user_dn" or isinstance(exception, _AWAY):
        raise DirectoryUnreachable(
            "The directory could not be asked, so nobody was signed in.",
            hint="Try again in a minute. Accounts with a password of their own here can sign in all the same.",
        ) from exception
