# SPDX-License-Identifier: GPL-3.0-or-later
"""Every address of the portal, as everybody. A route that is missing from the table fails the test.

Not signed in: to the login page. Not your machine: 404. Not your role: 403.
"""

import datetime as dt
import uuid
from dataclasses import dataclass, field

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.utils import timezone

from backups import services as backups
from backups.models import Repository, RestorePoint
from portal.audit import services as audit
from portal.audit.models import AuditEntry
from portal.environments.models import VmGrant
from portal.events.models import Delivery, DeliveryState
from portal.jobs.models import Job
from portal.jobs.states import JobState
from restores.models import Approval, Restore
from tests.factories import (
    ApiTokenFactory,
    DeliveryFactory,
    DiskFactory,
    JobFactory,
    PointFactory,
    UserFactory,
    VmFactory,
)

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]

PEOPLE = ("anonymous", "dave", "carol", "bob", "alice", "root")


@dataclass(frozen=True)
class Rule:
    """Expected statuses in the order of PEOPLE; `subject` names what the address is of."""

    get: tuple[int, ...] | None
    post: tuple[int, ...] | None = None
    subject: str = ""
    data: dict[str, str] = field(default_factory=dict)


LOGIN = 302
ALL = (LOGIN, 200, 200, 200, 200, 200)
OF_THE_TEAM = (LOGIN, 404, 200, 200, 200, 200)
OPERATORS_SEE = (LOGIN, 404, 403, 200, 200, 200)
OPERATORS_DO = (LOGIN, 404, 403, 302, 302, 302)
ADMINS_DO = (LOGIN, 404, 403, 403, 302, 302)
READERS_SEE = (LOGIN, 200, 403, 403, 200, 200)
PLATFORM_SEES = (LOGIN, 404, 404, 404, 404, 200)
PLATFORM_404 = (LOGIN, 404, 404, 404, 404, 404)
PLATFORM_DOES = (LOGIN, 404, 404, 404, 404, 302)
# One's own account: the password is asked for again, or the sign-in page or the overview is gone to.
CONFIRM = (LOGIN, 302, 302, 302, 302, 302)
NONE_OF_ONES_OWN = (LOGIN, 404, 404, 404, 404, 404)
# Webhooks: for admins of some team (dave is one, of another team), and for those of the webhook's own team.
TEAM_ADMINS_SEE = (LOGIN, 200, 404, 404, 200, 200)
ADMINS_OF_IT_SEE = (LOGIN, 404, 404, 404, 200, 200)
ADMINS_OF_IT_DO = (LOGIN, 404, 404, 404, 302, 302)

RULES = {
    "alive": Rule(get=(200,) * 6, post=None),
    "dashboard:overview": Rule(ALL),
    "dashboard:search": Rule(ALL),
    "dashboard:mine": Rule(ALL),
    "dashboard:my_restores": Rule(ALL),
    "environments:vm_list": Rule(ALL),
    "environments:vm": Rule(OF_THE_TEAM, subject="vm"),
    "environments:environment_list": Rule(PLATFORM_SEES),
    "environments:environment_add": Rule(PLATFORM_SEES, (LOGIN, 404, 404, 404, 404, 422)),
    "environments:environment": Rule(PLATFORM_SEES, subject="environment"),
    "environments:environment_people": Rule(
        PLATFORM_SEES, (LOGIN, 404, 404, 404, 404, 422), subject="environment", data={"principal": "x"}
    ),
    "environments:environment_refresh": Rule(None, PLATFORM_DOES, subject="environment"),
    "environments:environment_snapshots": Rule(None, PLATFORM_DOES, subject="environment"),
    "backups:back_up": Rule(None, OPERATORS_DO, subject="vm"),
    "backups:point": Rule(OF_THE_TEAM, subject="point"),
    "backups:verify": Rule(None, OPERATORS_DO, subject="point"),
    "backups:delete": Rule(None, ADMINS_DO, subject="point", data={"confirm_name": "shop"}),
    "backups:undelete": Rule(None, ADMINS_DO, subject="point"),
    "backups:pin": Rule(None, OPERATORS_DO, subject="point"),
    "backups:unpin": Rule(None, OPERATORS_DO, subject="point"),
    "backups:hold": Rule(None, ADMINS_DO, subject="point", data={"reason": "Case 4711"}),
    "backups:release": Rule(None, ADMINS_DO, subject="point", data={"reason": "Closed"}),
    "backups:repository_list": Rule(PLATFORM_SEES),
    "backups:repository_add": Rule(PLATFORM_SEES, (LOGIN, 404, 404, 404, 404, 422)),
    "backups:repository": Rule(PLATFORM_SEES, subject="repository"),
    "backups:repository_points": Rule(PLATFORM_SEES, subject="repository"),
    "backups:repository_trash": Rule(PLATFORM_SEES, subject="repository"),
    "backups:repository_change": Rule(PLATFORM_SEES, (LOGIN, 404, 404, 404, 404, 422), subject="repository"),
    "backups:repository_default": Rule(None, PLATFORM_DOES, subject="repository"),
    "backups:repository_verify": Rule(None, PLATFORM_DOES, subject="repository"),
    "backups:repository_collect": Rule(None, PLATFORM_DOES, subject="repository"),
    "restores:restore": Rule(
        OPERATORS_SEE, (LOGIN, 404, 403, 422, 422, 422), subject="point", data={"plan_hash": "stale"}
    ),
    "trail:entries": Rule(READERS_SEE),
    "trail:entry": Rule((LOGIN, 404, 403, 403, 200, 200), subject="entry"),
    "trail:export_csv": Rule(READERS_SEE),
    "trail:export_jsonl": Rule(READERS_SEE),
    "trail:verify": Rule(None, (LOGIN, 403, 403, 403, 403, 302)),
    "history:list": Rule(ALL),
    "history:calendar": Rule(ALL),
    "history:coverage": Rule(ALL),
    "history:export_csv": Rule(READERS_SEE),
    "history:export_json_lines": Rule(READERS_SEE),
    "jobs:job_list": Rule(ALL),
    "jobs:running_indicator": Rule(ALL),
    "jobs:job": Rule(OF_THE_TEAM, subject="job"),
    "jobs:job_progress": Rule(OF_THE_TEAM, subject="job"),
    "jobs:job_log": Rule(OF_THE_TEAM, subject="job"),
    "jobs:cancel": Rule(None, OPERATORS_DO, subject="job"),
    "jobs:retry": Rule(None, OPERATORS_DO, subject="failed"),
    "jobs:seen_to_all": Rule(None, (LOGIN, 302, 302, 302, 302, 302)),
    "jobs:seen_to": Rule(None, OPERATORS_DO, subject="failed"),
    "events:webhook_list": Rule(TEAM_ADMINS_SEE),
    "events:webhook_add": Rule(TEAM_ADMINS_SEE, (LOGIN, 422, 404, 404, 422, 422)),
    "events:webhook": Rule(ADMINS_OF_IT_SEE, subject="webhook"),
    "events:webhook_change": Rule(ADMINS_OF_IT_SEE, (LOGIN, 404, 404, 404, 422, 422), subject="webhook"),
    "events:webhook_secret": Rule(None, (LOGIN, 404, 404, 404, 200, 200), subject="webhook"),
    "events:webhook_switch": Rule(None, ADMINS_OF_IT_DO, subject="webhook", data={"enabled": "yes"}),
    "events:webhook_remove": Rule(None, (LOGIN, 404, 404, 404, 302, 404), subject="webhook"),
    "events:webhook_test": Rule(None, ADMINS_OF_IT_DO, subject="webhook"),
    "events:webhook_failed": Rule(None, ADMINS_OF_IT_DO, subject="webhook"),
    "events:delivery": Rule(ADMINS_OF_IT_SEE, subject="delivery"),
    "events:delivery_again": Rule(None, ADMINS_OF_IT_DO, subject="delivery"),
    "teams:team_list": Rule(ALL),
    "teams:team_add": Rule(PLATFORM_SEES, (LOGIN, 404, 404, 404, 404, 422)),
    "teams:team": Rule(OF_THE_TEAM, subject="team"),
    "teams:team_rename": Rule(None, PLATFORM_DOES, subject="team", data={"name": "Shop"}),
    "teams:team_approval": Rule(None, PLATFORM_DOES, subject="team", data={"approval": "never"}),
    "restores:approval_list": Rule(ALL),
    "restores:approval": Rule((LOGIN, 404, 200, 200, 200, 200), subject="waiting"),
    "restores:approve": Rule(None, (LOGIN, 404, 403, 403, 302, 302), subject="waiting"),
    "restores:refuse": Rule(
        None, (LOGIN, 404, 403, 403, 302, 302), subject="waiting", data={"why": "Wrong machine"}
    ),
    "teams:set_role": Rule(
        None, (LOGIN, 404, 403, 403, 302, 302), subject="team", data={"username": "carol", "role": "viewer"}
    ),
    "teams:remove_person": Rule(None, (LOGIN, 404, 403, 403, 404, 404), subject="team"),
    "teams:add_machine": Rule(None, (LOGIN, 404, 404, 404, 404, 422), subject="team"),
    "teams:remove_machine": Rule(None, PLATFORM_404, subject="team"),
    "teams:preview_rules": Rule(None, (LOGIN, 404, 404, 404, 404, 422), subject="team"),
    "teams:save_rules": Rule(None, (LOGIN, 404, 404, 404, 404, 422), subject="team"),
    "teams:machine_people": Rule(
        (LOGIN, 404, 403, 403, 200, 200),
        (LOGIN, 404, 403, 403, 302, 302),
        subject="vm",
        data={"username": "dave", "role": "viewer"},
    ),
    "teams:machine_revoke": Rule(None, (LOGIN, 404, 403, 403, 404, 404), subject="vm"),
    "accounts:login": Rule((200, 302, 302, 302, 302, 302), None),
    "accounts:logout": Rule(None, (LOGIN, 302, 302, 302, 302, 302)),
    "account_login": Rule((200, 302, 302, 302, 302, 302), None),
    "account_logout": Rule(None, (LOGIN, 302, 302, 302, 302, 302)),
    "account_inactive": Rule((200, 200, 200, 200, 200, 200)),
    "openid_connect_login": Rule((404, 404, 404, 404, 404, 404), subject="provider"),
    "openid_connect_callback": Rule((404, 404, 404, 404, 404, 404), subject="provider"),
    "socialaccount_login_cancelled": Rule((200, 200, 200, 200, 200, 200)),
    "socialaccount_connections": Rule(NONE_OF_ONES_OWN),
    "accounts:company_disconnect": Rule(None, NONE_OF_ONES_OWN),
    "accounts:group_rules": Rule(PLATFORM_SEES, (LOGIN, 404, 404, 404, 404, 422)),
    "accounts:group_rule_remove": Rule(None, NONE_OF_ONES_OWN, subject="number"),
    "account_reauthenticate": Rule(ALL, ALL),
    "mfa_reauthenticate": Rule(CONFIRM, CONFIRM),
    "mfa_reauthenticate_webauthn": Rule(CONFIRM, CONFIRM),
    "mfa_authenticate": Rule(CONFIRM, CONFIRM),
    "mfa_login_webauthn": Rule(CONFIRM, CONFIRM),
    "mfa_index": Rule(ALL),
    "mfa_activate_totp": Rule(CONFIRM, CONFIRM),
    "mfa_deactivate_totp": Rule(NONE_OF_ONES_OWN, NONE_OF_ONES_OWN),
    "mfa_view_recovery_codes": Rule(NONE_OF_ONES_OWN),
    "mfa_generate_recovery_codes": Rule(CONFIRM, CONFIRM),
    "mfa_add_webauthn": Rule(CONFIRM, CONFIRM),
    "mfa_edit_webauthn": Rule(CONFIRM, CONFIRM, subject="number"),
    "mfa_remove_webauthn": Rule(CONFIRM, CONFIRM, subject="number"),
    "accounts:session_list": Rule(ALL),
    "accounts:session_end": Rule(None, NONE_OF_ONES_OWN, subject="number"),
    "accounts:session_end_others": Rule(None, CONFIRM),
    "accounts:session_end_all": Rule(None, CONFIRM),
    "accounts:settings": Rule(ALL, (LOGIN, 422, 422, 422, 422, 422)),
    "tokens:token_list": Rule(ALL),
    "tokens:token_add": Rule(ALL, (LOGIN, 422, 422, 422, 422, 422)),
    "tokens:token": Rule(PLATFORM_SEES, subject="token"),
    "tokens:token_revoke": Rule(None, PLATFORM_DOES, subject="token"),
    "tokens:service_list": Rule(PLATFORM_SEES),
    "tokens:service_add": Rule(PLATFORM_SEES, (LOGIN, 404, 404, 404, 404, 422)),
    "tokens:service": Rule(PLATFORM_SEES, subject="service"),
    "tokens:service_switch": Rule(None, PLATFORM_DOES, subject="service"),
    "tokens:service_token_add": Rule(PLATFORM_SEES, (LOGIN, 404, 404, 404, 404, 422), subject="service"),
    "styleguide": Rule((LOGIN, 404, 404, 404, 404, 404)),
}
CASES = [
    (route, method) for route, rule in RULES.items() for method in ("get", "post") if getattr(rule, method)
]


class NoFiles:
    """In the place of a repository's files: takes every mark."""

    def mark_point(self, *_: object, **__: object) -> None:
        return None


@pytest.fixture
def addresses(people, rings, monkeypatch):
    """Address by route, of one machine with everything, in the team of alice, bob and carol.

    Its restore point has no files: what becomes of them is the business of tests/backups.
    """
    monkeypatch.setattr(backups, "_trash", lambda point, **_: None)
    monkeypatch.setattr(Repository, "open", lambda repository: NoFiles())
    vm = VmFactory(name="shop")
    vm.teams.add(people.team)
    DiskFactory(vm=vm)
    point = PointFactory(vm=vm)
    delivery = DeliveryFactory(webhook__team=people.team, state=DeliveryState.FAILED)
    waiting = JobFactory(vm=vm, kind="vm_restore", state=JobState.WAITING)
    plan = {"disks": [], "cluster_name": "", "storage_domain_name": "", "network_plugged": False}
    restore = Restore.objects.create(job=waiting, point=point, method="new_vm", target_name="x", plan=plan)
    expires_at = timezone.now() + dt.timedelta(days=1)
    Approval.objects.create(restore=restore, because="So.", expires_at=expires_at).teams.add(people.team)
    service = UserFactory(username="ticketing", is_service=True)
    subjects = {
        "service": service.uuid,
        "token": ApiTokenFactory(user=service).uuid,
        "waiting": restore.uuid,
        "vm": vm.uuid,
        "number": 1,
        "team": people.team.uuid,
        "provider": "company",
        "environment": vm.environment.uuid,
        "point": point.uuid,
        "repository": point.repository.uuid,
        "job": JobFactory(vm=vm, kind="point_verify").uuid,
        "entry": audit.record("backup.start", actor=people.alice, subject=vm).uuid,
        "failed": JobFactory(vm=vm, state=JobState.FAILED, finished_at=timezone.now()).uuid,
        "webhook": delivery.webhook.uuid,
        "delivery": (delivery.webhook.uuid, delivery.uuid),
    }
    return {
        route: reverse(route, args=_arguments(subjects.get(rule.subject))) for route, rule in RULES.items()
    }


def _arguments(subject: object) -> list[object]:
    """Of a subject below another one both."""
    return list(subject) if isinstance(subject, tuple) else [subject] if subject else []


def signed_in(people, name: str) -> Client:
    client = Client()
    if name != "anonymous":
        client.force_login(getattr(people, name))
    return client


def all_routes(patterns, prefix: str = ""):
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            inner = f"{prefix}{pattern.namespace}:" if pattern.namespace else prefix
            yield from all_routes(pattern.url_patterns, inner)
        elif isinstance(pattern, URLPattern):
            yield f"{prefix}{pattern.name}"


def test_the_table_names_every_route_and_no_other():
    found = [route for route in all_routes(get_resolver().url_patterns) if not route.startswith("api:")]
    assert sorted(found) == sorted(RULES)


@pytest.mark.parametrize(("route", "method"), CASES)
def test_who_may_do_what(people, addresses, route, method):
    rule, found = RULES[route], []
    for name in PEOPLE:
        data = rule.data if method == "post" else {}
        response = getattr(signed_in(people, name), method)(addresses[route], data)
        found.append(response.status_code)
        if name == "anonymous" and response.status_code == LOGIN:
            assert response.url.startswith(reverse("accounts:login"))
        _put_back()
    assert tuple(found) == getattr(rule, method)


def _put_back() -> None:
    """The next person finds nothing begun, ended or deleted."""
    Job.objects.filter(kind="vm_backup", state=JobState.PENDING).update(state=JobState.SUCCEEDED)
    Job.objects.filter(kind="point_verify", state=JobState.CANCELLED).update(state=JobState.PENDING)
    RestorePoint.objects.update(deleted_at=None)
    Job.objects.filter(kind="vm_restore").update(state=JobState.WAITING)
    Approval.objects.update(decision="", decided_at=None)
    Delivery.objects.update(state=DeliveryState.FAILED)
    VmGrant.objects.all().delete()


# Everything is as it is asked for already, so nothing was done; each has tests of its own where something is.
NOT_RECORDED = {
    "backups:undelete",
    "environments:environment_snapshots",
    "events:webhook_switch",
    "jobs:seen_to",
    "jobs:seen_to_all",
    "teams:set_role",
}


def test_whatever_is_done_is_recorded(people, addresses):
    unrecorded, begun = set(), set(Job.objects.values_list("pk", flat=True))
    for route, rule in RULES.items():
        # CONFIRM: nothing is done before the password was given once more.
        if rule.post is None or rule.post[-1] != 302 or rule.post is CONFIRM:
            continue
        client, before = signed_in(people, "root"), AuditEntry.objects.count()
        assert client.post(addresses[route], rule.data).status_code == 302, route
        if AuditEntry.objects.count() == before:
            unrecorded.add(route)
        # What one of them started is not in the way of the next.
        Job.objects.exclude(pk__in=begun).update(state=JobState.SUCCEEDED)
        _put_back()
    assert unrecorded == NOT_RECORDED


def test_what_changes_something_is_not_done_by_get(people, addresses):
    before = list(Job.objects.order_by("pk").values_list("pk", "state"))
    client = signed_in(people, "root")
    routes = [route for route, rule in RULES.items() if rule.get is None]
    assert {route: client.get(addresses[route]).status_code for route in routes} == dict.fromkeys(routes, 405)
    assert list(Job.objects.order_by("pk").values_list("pk", "state")) == before


def test_pages_that_only_show_refuse_to_be_posted_to(people, addresses):
    open_ones = ("alive", "accounts:login", "account_login", "styleguide")
    routes = [route for route, rule in RULES.items() if rule.post is None and route not in open_ones]
    client = signed_in(people, "root")
    assert {route: client.post(addresses[route]).status_code for route in routes} == dict.fromkeys(
        routes, 405
    )


def test_nothing_is_done_without_the_csrf_token(people, addresses):
    client = Client(enforce_csrf_checks=True)
    client.force_login(people.root)
    before = list(Job.objects.order_by("pk").values_list("pk", "state"))
    routes = [route for route, rule in RULES.items() if rule.post]
    found = {route: client.post(addresses[route], RULES[route].data).status_code for route in routes}
    assert found == dict.fromkeys(routes, 403)
    assert list(Job.objects.order_by("pk").values_list("pk", "state")) == before


def test_signing_in_needs_the_csrf_token(people):
    client = Client(enforce_csrf_checks=True)
    response = client.post(reverse("accounts:login"), {"username": "alice", "password": "correct horse"})
    assert response.status_code == 403
    assert "_auth_user_id" not in client.session


def test_the_style_guide_is_for_staff(people):
    people.root.is_staff = True
    people.root.save()
    assert signed_in(people, "root").get(reverse("styleguide")).status_code == 200


def test_what_does_not_exist_looks_like_what_is_somebody_elses(people, addresses):
    client = signed_in(people, "dave")
    hidden = client.get(addresses["environments:vm"])
    nothing = client.get(reverse("environments:vm", args=[uuid.uuid4()]))
    assert (hidden.status_code, nothing.status_code) == (404, 404)
    assert "shop" not in hidden.content.decode()


@pytest.mark.parametrize("name", ["carol", "dave"])
def test_lists_and_search_show_only_what_a_person_may_see(people, addresses, name):
    client, sees = signed_in(people, name), name == "carol"
    for route in ("dashboard:overview", "environments:vm_list", "jobs:job_list", "dashboard:search"):
        text = client.get(addresses[route], {"q": "shop"}).content.decode()
        links = [addresses[key] in text for key in ("environments:vm", "jobs:job", "backups:point")]
        assert any(links) == sees
    csv = client.get(addresses["environments:vm_list"], {"format": "csv"}).content.decode()
    assert ("shop" in csv) == sees
