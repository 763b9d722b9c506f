# SPDX-License-Identifier: GPL-3.0-or-later
"""The suite's own footing: a database is emptied although somebody else is at work in it."""

import threading

import pytest
from django.db import OperationalError, connection, transaction

from portal.accounts.models import Team, User
from tests import flushing
from tests.factories import TeamFactory, UserFactory


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_a_worker_in_the_middle_of_a_transaction_does_not_keep_the_database_from_being_emptied():
    """The other takes the last of the tables and then wants the first: a deadlock, whoever loses it."""
    TeamFactory()
    UserFactory()
    holds, may_go_on = threading.Event(), threading.Event()

    def work():
        try:
            with transaction.atomic():
                list(Team.objects.select_for_update())
                holds.set()
                may_go_on.wait(20)
                list(User.objects.select_for_update())
        except OperationalError:
            pass  # it lost
        finally:
            connection.close()

    worker = threading.Thread(target=work)
    worker.start()
    assert holds.wait(20)
    threading.Timer(0.5, may_go_on.set).start()
    sql = [f'TRUNCATE "{model._meta.db_table}" CASCADE;' for model in (User, Team)]
    connection.ops.execute_sql_flush(sql)
    worker.join(30)
    assert not User.objects.exists()
    assert not Team.objects.exists()


def test_what_no_patience_helps_is_raised():
    tried = []

    def flush(operations, statements):
        tried.append(statements)
        raise OperationalError("no such server")

    with pytest.raises(OperationalError, match="no such server"):
        flushing.repeating(flush)(None, ["TRUNCATE"])
    assert len(tried) == flushing.TRIES
