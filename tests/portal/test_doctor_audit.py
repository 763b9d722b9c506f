# SPDX-License-Identifier: GPL-3.0-or-later
"""What `manage.py doctor` says of the audit history."""

import pytest
from django.db import connection
from django.utils import timezone

from portal.audit import guards
from portal.audit.models import AuditAnchor, AuditVerification
from portal.management.commands.doctor import _audit
from tests.factories import RepositoryFactory

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]


def said() -> list[tuple[bool | None, str]]:
    return [(finding.good, finding.text) for finding in _audit()]


def test_a_fresh_portal_is_told_what_is_still_to_come():
    RepositoryFactory()
    assert [good for good, _ in said()] == [None, None]


def test_a_whole_history_and_a_broken_one():
    now = timezone.now()
    AuditVerification.objects.create(at=now, entries=1200, anchors=1, seconds=1)
    AuditAnchor.objects.create(at=now, place="x", place_name="x", sequence=1, hash="x")
    ((good, text),) = said()
    assert good is True
    assert "1,200 entries, whole" in text
    AuditVerification.objects.create(at=now, entries=2, anchors=1, seconds=1, problem="Entry 3 was changed.")
    assert said() == [(False, "The audit history is not whole: Entry 3 was changed.")]


def test_triggers_that_are_not_there():
    guards.take_down(connection)
    assert said()[0][0] is False
    guards.put_up(connection)
    assert guards.missing(connection) == []
