# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of rights: every route of the portal, and what each kind of person is answered there.

A new route is entered here, or the walk (walk.py) fails. `manage.py rights_table` writes docs/rights.md anew.
"""

from __future__ import annotations

from typing import Any

from portal.rights.cells import (
    ADMINISTERS,
    ANYONE,
    CONFIRM,
    FORM,
    ITS_ADMINS,
    NOBODY,
    OK,
    OPERATES,
    PLATFORM,
    READS_AUDIT,
    READS_ENTRY,
    SEES,
    SIGNED_IN,
    TEAM_ADMINS,
    TEAM_MANAGES,
    TEAM_SEES,
    Cells,
    Row,
)

# Whoever is signed in already is sent on from the page for signing in, whatever the method.
_SENT_ON = "ok ok ok ok ok ok ok"


def _sign_in(route: str, what: str) -> Row:
    form, refused = Cells.of(f"form {_SENT_ON}"), Cells.of(f"405 {_SENT_ON}")
    return Row(route, what, ANYONE, form, put=form, patch=refused, delete=refused)


SIGN_IN_ROWS = [
    Row("alive", "Whether the web process answers", ANYONE),
    _sign_in("accounts:login", "Signing in"),
    _sign_in("account_login", "The same, as allauth names it"),
    Row("accounts:logout", "Signing out", post=ANYONE),
    Row("account_logout", "The same, as allauth names it", post=ANYONE),
    Row("account_inactive", "That an account is switched off", ANYONE),
    Row("accounts:settings", "One's own settings and password", SIGNED_IN, SIGNED_IN.but(OK, FORM)),
    Row("accounts:session_list", "Where one is signed in", SIGNED_IN),
    Row("accounts:session_end", "Sign out there: not somebody else", post=NOBODY, of="session"),
    Row("accounts:session_end_others", "Sign out everywhere else", post=SIGNED_IN),
    Row("accounts:session_end_all", "Sign out everywhere", post=SIGNED_IN),
    Row("styleguide", "The components of the pages, for staff", NOBODY),
]
_AGAIN = SIGNED_IN.but(OK, CONFIRM)
TWO_STEP_ROWS = [
    Row("mfa_authenticate", "The second step of signing in", ANYONE, ANYONE, loose=True),
    Row("mfa_login_webauthn", "Signing in with a passkey", ANYONE, ANYONE, loose=True),
    Row("account_reauthenticate", "The password once more", SIGNED_IN, SIGNED_IN, loose=True),
    Row("mfa_reauthenticate", "A code once more", SIGNED_IN, SIGNED_IN, loose=True),
    Row("mfa_reauthenticate_webauthn", "The passkey once more", SIGNED_IN, SIGNED_IN, loose=True),
    Row("mfa_index", "One's own second steps", SIGNED_IN),
    Row("mfa_activate_totp", "Add an authenticator app", _AGAIN, _AGAIN, loose=True),
    Row("mfa_deactivate_totp", "Remove it (nobody here has one)", NOBODY, NOBODY, loose=True),
    Row("mfa_view_recovery_codes", "See recovery codes (nobody here has any)", NOBODY),
    Row("mfa_generate_recovery_codes", "Make new ones", _AGAIN, _AGAIN, loose=True),
    Row("mfa_add_webauthn", "Add a passkey", _AGAIN, _AGAIN, loose=True),
    Row("mfa_edit_webauthn", "Rename one", _AGAIN, _AGAIN, loose=True, of="passkey"),
    Row("mfa_remove_webauthn", "Remove one", _AGAIN, _AGAIN, loose=True, of="passkey"),
]
_NOT_SET_UP = Cells.of("404 404 404 404 404 404 404 404")
COMPANY_ROWS = [
    Row("openid_connect_login", "Go to the company's page (none is set up here)", _NOT_SET_UP, of="provider"),
    Row("openid_connect_callback", "Come back from there", _NOT_SET_UP, of="provider"),
    Row("socialaccount_login_cancelled", "That one came back without signing in", ANYONE),
    Row("socialaccount_connections", "One's own account there", NOBODY),
    Row("accounts:company_disconnect", "Let go of it", post=NOBODY),
    Row("accounts:group_rules", "Which groups give which roles", PLATFORM, PLATFORM.but(OK, FORM)),
    Row("accounts:group_rule_remove", "Remove such a rule: there is none", post=NOBODY, of="group_rule"),
]
MACHINE_ROWS = [
    Row("dashboard:overview", "What needs attention among one's machines", SIGNED_IN),
    Row("dashboard:search", "Search in what one may see", SIGNED_IN),
    Row("dashboard:mine", "My machines", SIGNED_IN),
    Row("dashboard:my_restores", "My restores", SIGNED_IN),
    Row("environments:vm_list", "The machines that one may see", SIGNED_IN),
    Row("environments:vm", "A machine", SEES, of="vm"),
    Row("backups:back_up", "Back a machine up", post=OPERATES, of="vm"),
]
_VIEWER: dict[str, Any] = {"username": "{viewer}", "role": "viewer"}
TEAM_ROWS = [
    Row("teams:team_list", "One's teams", SIGNED_IN),
    Row("teams:team_add", "Make a team", PLATFORM, PLATFORM, data={"name": "A new team"}),
    Row("teams:team", "A team", TEAM_SEES, of="team"),
    Row("teams:team_rename", "Rename it", post=PLATFORM, of="team", data={"name": "A new name"}),
    Row(
        "teams:set_role",
        "Give a role in it",
        post=TEAM_MANAGES,
        of="team",
        data={**_VIEWER, "role": "auditor"},
    ),
    Row(
        "teams:remove_person",
        "Take a person out",
        post=TEAM_MANAGES,
        of="team",
        data={"person": "{viewer_uuid}"},
    ),
    Row("teams:team_quotas", "Set its quotas", post=PLATFORM, of="team", data={"points": "10"}),
    Row(
        "teams:team_approval",
        "Say which of its restores wait for a second person",
        post=PLATFORM,
        of="team",
        data={"approval": "every"},
    ),
    Row(
        "teams:add_machine",
        "Give it a machine by hand",
        post=PLATFORM,
        of="team",
        data={"environment": "{environment}", "name": "shop"},
    ),
    Row("teams:remove_machine", "Take that back", post=PLATFORM, of="team", data={"vm": "{vm}"}),
    Row(
        "teams:preview_rules",
        "See what a rule would change",
        post=PLATFORM,
        of="team",
        data={"kind": "name", "value": "shop*"},
    ),
    Row(
        "teams:save_rules",
        "Save its rules",
        post=PLATFORM,
        of="team",
        data={"drafts": "[]", "hash": "{no_rules}"},
    ),
    Row(
        "teams:machine_people",
        "Roles on one machine; give one",
        ADMINISTERS,
        ADMINISTERS,
        of="vm",
        data=_VIEWER,
    ),
    Row("teams:machine_revoke", "Take one back", post=ADMINISTERS, of="vm", data={"person": "{owner_uuid}"}),
]
AUDIT_ROWS = [
    Row("trail:entries", "The history that one may read", READS_AUDIT),
    Row("trail:entry", "An entry about a machine of the team", READS_ENTRY, of="entry"),
    Row("trail:export_csv", "Export it as CSV", READS_AUDIT),
    Row("trail:export_jsonl", "Export it with its seals", READS_AUDIT),
    Row("trail:verify", "Verify all of it", post=PLATFORM.but("404", "403")),
]
POINT_ROWS = [
    Row("backups:point", "A restore point", SEES, of="point"),
    Row("backups:verify", "Verify it", post=OPERATES, of="point"),
    Row("backups:pin", "Pin it", post=OPERATES, of="point"),
    Row("backups:unpin", "Unpin it", post=OPERATES, of="point"),
    Row("backups:hold", "Lay a legal hold on it", post=ADMINISTERS, of="point", data={"reason": "Case 4711"}),
    Row("backups:release", "Release the hold", post=ADMINISTERS, of="point", data={"reason": "Closed"}),
    Row("backups:delete", "Delete it", post=ADMINISTERS, of="doomed", data={"confirm_name": "shop"}),
    Row("backups:undelete", "Take it out of the trash", post=ADMINISTERS, of="trashed"),
    Row(
        "restores:restore",
        "Plan and start a restore",
        OPERATES,
        OPERATES,
        of="point",
        data={"name": "shop-restored", "plan_hash": "{plan_hash}"},
    ),
]
APPROVAL_ROWS = [
    Row("restores:approval_list", "Restores that wait for a second person", SIGNED_IN),
    Row("restores:approval", "One of them", SEES, of="waiting"),
    Row("restores:approve", "Approve it", post=ADMINISTERS, of="waiting"),
    Row("restores:refuse", "Refuse it", post=ADMINISTERS, of="waiting", data={"why": "Wrong machine"}),
]
JOB_ROWS = [
    Row("jobs:job_list", "The jobs that one may see", SIGNED_IN),
    Row("jobs:running_indicator", "How many of them run", SIGNED_IN),
    Row("jobs:job", "A job", SEES, of="job"),
    Row("jobs:job_progress", "Its progress", SEES, of="job"),
    Row("jobs:job_log", "Its log", SEES, of="job"),
    Row("jobs:cancel", "Cancel it", post=OPERATES, of="job"),
    Row("jobs:retry", "Try a failed one again", post=OPERATES, of="failed"),
    Row("jobs:seen_to", "See to its warnings", post=OPERATES, of="failed"),
    Row("jobs:seen_to_all", "See to all warnings that one may", post=SIGNED_IN),
]
WEBHOOK_ROWS = [
    Row("events:webhook_list", "The webhooks of one's teams", TEAM_ADMINS),
    Row("events:webhook_add", "Add one", TEAM_ADMINS, TEAM_ADMINS.but(OK, FORM)),
    Row("events:webhook", "A webhook of the team", ITS_ADMINS, of="webhook"),
    Row("events:webhook_change", "Change it", ITS_ADMINS, ITS_ADMINS.but(OK, FORM), of="webhook"),
    Row("events:webhook_secret", "Give it a new secret", post=ITS_ADMINS, of="webhook"),
    Row(
        "events:webhook_switch", "Switch it on or off", post=ITS_ADMINS, of="webhook", data={"enabled": "yes"}
    ),
    Row("events:webhook_remove", "Remove it", post=ITS_ADMINS, of="webhook"),
    Row("events:webhook_test", "Send it a test", post=ITS_ADMINS, of="webhook"),
    Row("events:webhook_failed", "Send what failed again", post=ITS_ADMINS, of="webhook"),
    Row("events:delivery", "A delivery to it", ITS_ADMINS, of="delivery"),
    Row("events:delivery_again", "Send it again", post=ITS_ADMINS, of="delivery"),
]
HISTORY_ROWS = [
    Row("history:list", "Backups and restores that one may see", SIGNED_IN),
    Row("history:calendar", "The same by day", SIGNED_IN),
    Row("history:coverage", "Which machines are protected", SIGNED_IN),
    Row("history:export_csv", "Backups and restores as CSV", READS_AUDIT),
    Row("history:export_json_lines", "The same as JSON Lines", READS_AUDIT),
]
TOKEN_ROWS = [
    Row("tokens:token_list", "One's own tokens", SIGNED_IN),
    Row("tokens:token_add", "Make one", SIGNED_IN, SIGNED_IN.but(OK, FORM)),
    Row("tokens:token", "A token of a service account", PLATFORM, of="service_token"),
    Row("tokens:token_revoke", "Revoke it", post=PLATFORM, of="service_token"),
    Row("tokens:service_list", "Service accounts", PLATFORM),
    Row("tokens:service_add", "Make one", PLATFORM, PLATFORM.but(OK, FORM)),
    Row("tokens:service", "A service account", PLATFORM, of="service"),
    Row("tokens:service_switch", "Switch it on or off", post=PLATFORM, of="service"),
    Row("tokens:service_token_add", "Make a token for it", PLATFORM, PLATFORM.but(OK, FORM), of="service"),
]
PLATFORM_ROWS = [
    Row("environments:environment_list", "Managers", PLATFORM),
    Row("environments:environment_add", "Add one", PLATFORM, PLATFORM.but(OK, FORM)),
    Row("environments:environment", "A Manager", PLATFORM, of="environment"),
    Row(
        "environments:environment_people",
        "Who its users are here, and what makes an owner",
        PLATFORM,
        PLATFORM.but(OK, FORM),
        of="environment",
        data={"principal": "x"},
    ),
    Row("environments:environment_refresh", "Ask it for its machines", post=PLATFORM, of="environment"),
    Row(
        "environments:environment_snapshots",
        "Back up with or without snapshots",
        post=PLATFORM,
        of="environment",
    ),
    Row("backups:repository_list", "Repositories", PLATFORM),
    Row("backups:repository_add", "Add one", PLATFORM, PLATFORM.but(OK, FORM)),
    Row("backups:repository", "A repository", PLATFORM, of="repository"),
    Row("backups:repository_points", "Its restore points", PLATFORM, of="repository"),
    Row("backups:repository_trash", "Its trash", PLATFORM, of="repository"),
    Row("backups:repository_change", "Change it", PLATFORM, PLATFORM.but(OK, FORM), of="repository"),
    Row("backups:repository_default", "Make it the default", post=PLATFORM, of="repository"),
    Row("backups:repository_verify", "Verify all of it", post=PLATFORM, of="repository"),
    Row("backups:repository_collect", "Remove what nobody needs", post=PLATFORM, of="repository"),
]
_RESTORE = {"point": "{point}", "name": "shop-restored"}
API_ROWS = [
    Row("api:schema", "The API's description", ANYONE),
    Row("api:docs", "The same, for people", SIGNED_IN),
    Row("api:environments", "Managers of machines that one may see", SIGNED_IN),
    Row("api:environment", "One of them", SEES, of="environment"),
    Row("api:vms", "Machines", SIGNED_IN),
    Row("api:vm", "A machine", SEES, of="vm"),
    Row("api:vm_point", "Its latest restore point", SEES, of="vm_latest"),
    Row("api:points", "Restore points", SIGNED_IN),
    Row("api:point", "A restore point", SEES, of="point"),
    Row("api:point_verify", "Verify it", post=OPERATES, of="point"),
    Row("api:point_pin", "Pin it", post=OPERATES, of="point"),
    Row("api:point_unpin", "Unpin it", post=OPERATES, of="point"),
    Row(
        "api:point_hold", "Lay a legal hold on it", post=ADMINISTERS, of="point", data={"reason": "Case 4711"}
    ),
    Row("api:point_release", "Release the hold", post=ADMINISTERS, of="point", data={"reason": "Closed"}),
    Row("api:point_delete", "Delete it", post=ADMINISTERS, of="doomed", data={"reason": "Too old"}),
    Row("api:point_undelete", "Take it out of the trash", post=ADMINISTERS, of="trashed"),
    Row("api:backups", "Backups; start one", SIGNED_IN, OPERATES, data={"vm": "{vm}"}),
    Row(
        "api:restores",
        "Restores; start one",
        SIGNED_IN,
        OPERATES,
        data={**_RESTORE, "plan_hash": "{plan_hash}"},
    ),
    Row("api:restore_plan", "Plan one", post=OPERATES, data=_RESTORE),
    Row("api:restore", "A restore", SEES, of="restore"),
    Row("api:restore_approve", "Approve one that waits for a second person", post=ADMINISTERS, of="waiting"),
    Row("api:restore_refuse", "Refuse it", post=ADMINISTERS, of="waiting", data={"reason": "Wrong machine"}),
    Row("api:events", "Events of machines that one may see", SIGNED_IN),
    Row("api:repositories", "Repositories; none for others than platform admins", SIGNED_IN),
    Row("api:repository", "A repository", PLATFORM, of="repository"),
    Row("api:teams", "One's teams", SIGNED_IN),
    Row("api:team", "A team", TEAM_SEES, of="team"),
    Row("api:audit", "The history that one may read", READS_AUDIT),
    Row("api:audit_entry", "An entry about a machine of the team", READS_ENTRY, of="entry"),
    Row("api:jobs", "Jobs", SIGNED_IN),
    Row("api:job", "A job", SEES, of="job"),
    Row("api:job_cancel", "Cancel it", post=OPERATES, of="job"),
    Row("api:job_retry", "Try a failed one again", post=OPERATES, of="failed"),
]
SECTIONS: dict[str, list[Row]] = {
    "Signing in, and oneself": SIGN_IN_ROWS,
    "Second steps of signing in": TWO_STEP_ROWS,
    "The company's sign-in": COMPANY_ROWS,
    "Machines": MACHINE_ROWS,
    "Teams, and roles on one machine": TEAM_ROWS,
    "Restore points and restores": POINT_ROWS + APPROVAL_ROWS,
    "Jobs": JOB_ROWS,
    "Webhooks": WEBHOOK_ROWS,
    "The history": HISTORY_ROWS + AUDIT_ROWS,
    "Tokens and service accounts": TOKEN_ROWS,
    "Managers and repositories": PLATFORM_ROWS,
    "API": API_ROWS,
}
TABLE: list[Row] = [row for rows in SECTIONS.values() for row in rows]

__all__ = ["SECTIONS", "TABLE", "Cells", "Row"]
