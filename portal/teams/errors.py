# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from portal.errors import PortalError


class NameTaken(PortalError):
    """A team of that name is there already."""


class NoSuchPerson(PortalError):
    """Nobody of that user name can be given a role."""

    status = 404


class LastAdmin(PortalError):
    """The team would be left without an admin."""


class ComesByRule(PortalError):
    """A machine that a rule brings cannot be taken away by hand."""


class PreviewChanged(PortalError):
    """The world is no longer the one that the preview showed."""


class RuleUnclear(PortalError):
    """A rule that says nothing, or the same as another one."""

    status = 422
