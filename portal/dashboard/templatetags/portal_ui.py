# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters and tags shared by all templates: `{% load portal_ui %}`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django import template
from django.http import HttpRequest, QueryDict
from django.templatetags.static import static
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.safestring import SafeString

from portal import wording
from portal.accounts.models import User
from portal.dashboard.templatetags import timeline
from portal.jobs.models import Job
from portal.jobs.presenters import unfinished_counts
from portal.trail.access import may_read

register = template.Library()


@dataclass(frozen=True)
class Badge:
    """A status as people read it: word, icon of the sprite, tone (ok, warn, bad, info or none)."""

    word: str
    icon: str
    tone: str


BADGES = {
    "protected": Badge("Protected", "protected", "ok"),
    "stale": Badge("Stale", "stale", "warn"),
    "failing": Badge("Failing", "failing", "bad"),
    "unprotected": Badge("Unprotected", "unprotected", "warn"),
    "unknown": Badge("Unknown", "unknown", "none"),
    "pending": Badge("Queued", "pending", "none"),
    "running": Badge("Running", "running", "info"),
    "waiting": Badge("Waiting for you", "waiting", "warn"),
    "interrupted": Badge("Interrupted, will resume", "refresh", "warn"),
    "succeeded": Badge("Succeeded", "check", "ok"),
    "warned": Badge("Succeeded with warnings", "warning", "warn"),
    "failed": Badge("Failed", "failed", "bad"),
    "cancelled": Badge("Cancelled", "cancelled", "none"),
    "skipped": Badge("Skipped", "keep", "none"),
    "verified": Badge("Verified", "check", "ok"),
    "unverified": Badge("Not verified yet", "unknown", "none"),
    "damaged": Badge("Damaged", "failed", "bad"),
    "deleted": Badge("Deleted", "overwrite", "none"),
    "gone": Badge("Gone", "unknown", "none"),
    "reachable": Badge("Reachable", "check", "ok"),
    "uncollected": Badge("Collection failed", "warning", "warn"),
    "nearly_full": Badge("Nearly full", "warning", "warn"),
    "unreachable": Badge("Unreachable", "failed", "bad"),
    "up": Badge("Up", "on", "ok"),
    "down": Badge("Down", "off", "none"),
    "active": Badge("Active", "check", "ok"),
    "pass": Badge("Fine", "check", "ok"),
    "warn": Badge("Mind", "warning", "warn"),
    "block": Badge("Stops this", "failed", "bad"),
}


@dataclass(frozen=True)
class NavEntry:
    label: str
    short: str
    icon: str
    url: str
    current: bool


# label, label on a phone, icon, URL name, namespaces whose pages light the entry up (URL name prefix after ":")
NAV: tuple[tuple[str, str, str, str, tuple[str, ...]], ...] = (
    ("Overview", "Overview", "overview", "dashboard:overview", ("dashboard:overview",)),
    (
        "Virtual machines",
        "Machines",
        "machine",
        "environments:vm_list",
        ("environments:vm", "backups:point", "restores:"),
    ),
    ("Jobs", "Jobs", "jobs", "jobs:job_list", ("jobs:",)),
    ("Managers", "Managers", "manager", "environments:environment_list", ("environments:environment",)),
    ("History", "History", "report", "history:list", ("history:",)),
    # Platform admins find it among the settings, where the rest of what only they see is.
    ("Audit", "Audit", "key", "trail:entries", ("trail:",)),
    (
        "Settings",
        "Settings",
        "settings",
        "accounts:settings",
        ("accounts:", "account_", "mfa_", "socialaccount_", "teams:", "backups:repositor", "events:"),
    ),
)

# For a person without a team, who is here for single machines: the same pages light up, under one's own names.
MY_NAV: tuple[tuple[str, str, str, str, tuple[str, ...]], ...] = (
    (
        "My machines",
        "Machines",
        "machine",
        "dashboard:mine",
        ("dashboard:mine", "environments:vm", "backups:point", "restores:"),
    ),
    ("My restores", "Restores", "restore", "dashboard:my_restores", ("dashboard:my_restores", "jobs:")),
    (
        "Settings",
        "Settings",
        "settings",
        "accounts:settings",
        ("accounts:", "account_", "mfa_", "socialaccount_"),
    ),
)

# Pages that do not exist for anybody but platform admins.
ADMIN_PAGES = {"environments:environment_list"}


@register.filter(name="bytes")
def bytes_(value: float | None) -> str:
    """Say a size in binary units with three significant digits; `unknown` for None."""
    return "unknown" if value is None or value == "" else wording.size(int(value))


@register.filter
def exact_bytes(value: float | None) -> str:
    return "" if value is None or value == "" else f"{int(value):,} bytes"


@register.simple_tag
def amount(done: int | None, total: int | None) -> str:
    """Say `1.80 of 4.2 GiB`; with no total known yet, only what is done."""
    return wording.amount(done or 0, total) if total else wording.size(done or 0)


@register.filter
def rate(value: float | None) -> str:
    """Say bytes per second as MiB/s; empty for None."""
    return "" if value is None or value == "" else wording.rate(float(value))


@register.filter
def said(moment: datetime) -> SafeString | str:
    """Say a moment so that a person finds it in memory: `yesterday 22:04, 14 hours ago`."""
    day = day_time(moment)
    distance = wording.ago(moment, timezone.now())
    return day if distance == "yesterday" else format_html("{}, {}", day, ago(moment))


@register.filter
def day_time(moment: datetime) -> SafeString:
    """Say a moment by its day as `<time>`: `yesterday 22:04`."""
    return _time(moment, wording.day_and_time(timezone.localtime(moment), timezone.localtime()), "day")


@register.filter
def duration(value: timedelta | float | None) -> str:
    """Say a timedelta or a number of seconds: `1 min 12 s`; empty for None."""
    if value is None or value == "":
        return ""
    return wording.duration(value.total_seconds() if isinstance(value, timedelta) else float(value))


@register.filter
def about(value: timedelta | float | None) -> str:
    """Say a guessed duration, rounded to what is really known: `12 s`, `2 min`."""
    if value is None or value == "":
        return ""
    return wording.about(value.total_seconds() if isinstance(value, timedelta) else float(value))


@register.simple_tag
def elapsed(start: datetime | None, end: datetime | None = None) -> str:
    """Say how long something took, or has been taking until now; empty if it has not begun."""
    return "" if not start else wording.duration(((end or timezone.now()) - start).total_seconds())


@register.filter
def ago(moment: datetime | None, otherwise: str = "never") -> SafeString | str:
    """Say a moment relative to now as `<time>`, with the exact time on hover; `otherwise` for None."""
    if not moment:
        return otherwise
    return _time(moment, wording.ago(moment, timezone.now()), "ago")


@register.filter
def moment(value: datetime | None, otherwise: str = "unknown") -> SafeString | str:
    """Say an exact local moment as `<time>`: `17 Nov 2026, 02:00`."""
    return _time(value, date_format(timezone.localtime(value), "j M Y, H:i"), "exact") if value else otherwise


def _time(value: datetime, text: str, kind: str) -> SafeString:
    exact = date_format(timezone.localtime(value), "l j F Y, H:i:s T")
    return format_html(
        '<time datetime="{}" title="{}" data-time="{}">{}</time>',
        value.isoformat(timespec="seconds"),
        exact,
        kind,
        text,
    )


@register.simple_tag
def icon(name: str, label: str = "") -> SafeString:
    """Draw a symbol of the sprite. Decoration beside a word, unless `label` names it."""
    aria = format_html('role="img" aria-label="{}"', label) if label else SafeString('aria-hidden="true"')
    return format_html(
        '<svg class="icon icon-{}" {} focusable="false"><use href="{}#{}"></use></svg>',
        name,
        aria,
        static("icons.svg"),
        name,
    )


@register.simple_tag
def badge_of(status: str) -> Badge:
    """Return word, icon and tone of a status; one that is not listed keeps its own word."""
    key = str(status).lower()
    return BADGES.get(key) or Badge(key.replace("_", " ").capitalize() or "Unknown", "unknown", "none")


@register.simple_tag
def running_class(status: str) -> str:
    """Return the state that tab title and favicon show for a job in `status`."""
    return {"succeeded": "ok", "failed": "bad", "cancelled": "none", "waiting": "waiting"}.get(
        status, "running"
    )


@register.simple_tag
def timeline_months(points: Sequence[Any], selected: Any = None, month: str = "") -> list[timeline.Month]:
    """Group restore points by month and day, newest first."""
    return timeline.months(points, selected=selected, month=month)


@register.simple_tag
def timeline_dots(day: timeline.Day, prefix: str = "?point=", selected: Any = None) -> SafeString:
    """Render one day's points as links to `prefix` + uuid."""
    return timeline.dots(day, prefix=prefix, chosen=str(getattr(selected, "uuid", selected) or ""))


@register.simple_tag(takes_context=True)
def nav_entries(context: template.Context) -> list[NavEntry]:
    """Return the entries of the rail whose pages exist for this person, marking the one this page belongs to."""
    request = context.get("request")
    here = _view_name(request)
    person = getattr(request, "user", None)
    admin = getattr(person, "is_platform_admin", False)
    entries = []
    for label, short, symbol, name, owned in MY_NAV if _is_here_for_machines_alone(person) else NAV:
        if name in ADMIN_PAGES and not admin:
            continue
        if name == "trail:entries" and (admin or not _reads_audit(request)):
            continue
        try:
            url = reverse(name)
        except NoReverseMatch:
            continue
        entries.append(NavEntry(label, short, symbol, url, here.startswith(owned)))
    return entries


def _reads_audit(request: HttpRequest | None) -> bool:
    return isinstance(user := getattr(request, "user", None), User) and may_read(user)


def _is_here_for_machines_alone(person: Any) -> bool:
    return bool(getattr(person, "is_here_for_machines_alone", False))


@register.simple_tag(takes_context=True)
def list_of(context: template.Context, what: str) -> dict[str, str]:
    """`label` and `url` of the list that a page's breadcrumb begins with: `machines` or `jobs`, one's own for a person
    who has no other."""
    alone = _is_here_for_machines_alone(getattr(context.get("request"), "user", None))
    label, name = _LISTS[what, alone]
    return {"label": label, "url": reverse(name)}


_LISTS = {
    ("machines", False): ("Virtual machines", "environments:vm_list"),
    ("machines", True): ("My machines", "dashboard:mine"),
    ("jobs", False): ("Jobs", "jobs:job_list"),
    ("jobs", True): ("My restores", "dashboard:my_restores"),
}


@register.simple_tag(takes_context=True)
def job_counts(context: template.Context) -> dict[str, int]:
    """Return counts of unfinished jobs that this person may see: `running` and `waiting`. One query."""
    request = context.get("request")
    if request is None or not request.user.is_authenticated:
        return {"running": 0, "waiting": 0}
    return unfinished_counts(Job.objects.visible_to(request.user))


@register.simple_tag
def url_if(name: str) -> str:
    """Return the address of a page by URL name, or nothing where there is no such page."""
    try:
        return reverse(name)
    except NoReverseMatch:
        return ""


@register.simple_tag(takes_context=True)
def came_from(context: template.Context) -> str:
    """Return the page of this portal that led here, or nothing; never another site or this page itself."""
    request = context.get("request")
    if request is None:
        return ""
    given = request.headers.get("Referer", "")
    if not given or not url_has_allowed_host_and_scheme(given, allowed_hosts={request.get_host()}):
        return ""
    return "" if given == request.build_absolute_uri() else given


def _view_name(request: HttpRequest | None) -> str:
    match = getattr(request, "resolver_match", None)
    return match.view_name if match else ""


@register.simple_tag(takes_context=True)
def query(context: template.Context, **changes: Any) -> str:
    """Return this page's query string with parameters set (or, for an empty value, removed)."""
    request = context.get("request")
    params = request.GET.copy() if request else QueryDict(mutable=True)
    for key, value in changes.items():
        params.pop(key, None)
        if value not in (None, ""):
            params[key] = str(value)
    return f"?{params.urlencode()}" if params else "?"


@register.filter
def since(moment: datetime, start: datetime | None) -> str:
    """Say the distance of a log line from `start` (`+12.4 s`, `+1:05:09`); its local clock time without a start."""
    if not start:
        return f"{timezone.localtime(moment):%H:%M:%S}"
    seconds = max(0.0, (moment - start).total_seconds())
    if seconds < 60:
        return f"+{seconds:.1f} s"
    hours, minutes = int(seconds) // 3600, int(seconds) // 60 % 60
    return f"+{hours}:{minutes:02}:{int(seconds) % 60:02}" if hours else f"+{minutes}:{int(seconds) % 60:02}"


@register.filter
def plain(value: int) -> str:
    """Return digits without separators, as attributes need them."""
    return str(int(value))


@register.filter
def item(sequence: Sequence[Any], index: int) -> Any:
    return sequence[index]


@register.filter
def words(text: str) -> list[str]:
    return text.split()


@register.simple_tag
def script_url(name: str) -> str:
    return static(f"js/{name}.js")
