# SPDX-License-Identifier: GPL-3.0-or-later
"""All addresses of the portal."""

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django.views.decorators.http import require_safe

from portal.dashboard import mine, styleguide
from portal.dashboard import views as dashboard
from portal.environments import people_views
from portal.environments import views as environments


@login_not_required
@require_safe
def alive(request: HttpRequest) -> HttpResponse:
    """For load balancers and process supervisors: the web process answers."""
    return HttpResponse("alive\n", content_type="text/plain")


dashboard_patterns = [
    path("", dashboard.overview, name="overview"),
    path("search/", dashboard.search, name="search"),
    path("mine/", mine.mine, name="mine"),
    path("mine/restores/", mine.my_restores, name="my_restores"),
]
environment_patterns = [
    path("machines/", dashboard.vm_list, name="vm_list"),
    path("machines/<uuid:vm_uuid>/", dashboard.vm, name="vm"),
    path("managers/", environments.environment_list, name="environment_list"),
    path("managers/add/", environments.environment_add, name="environment_add"),
    path("managers/<uuid:environment_uuid>/", environments.environment, name="environment"),
    path(
        "managers/<uuid:environment_uuid>/refresh/",
        environments.environment_refresh,
        name="environment_refresh",
    ),
    path(
        "managers/<uuid:environment_uuid>/people/",
        people_views.environment_people,
        name="environment_people",
    ),
    path(
        "managers/<uuid:environment_uuid>/snapshots/",
        environments.environment_snapshots,
        name="environment_snapshots",
    ),
]
urlpatterns = [
    path("alive/", alive, name="alive"),
    path("", include((dashboard_patterns, "dashboard"))),
    path("", include((environment_patterns, "environments"))),
    path("", include("backups.urls")),
    path("", include("restores.urls")),
    path("", include("portal.trail.urls")),
    path("", include("portal.teams.urls")),
    path("jobs/", include("portal.jobs.urls")),
    path("", include("portal.events.urls")),
    path("history/", include("portal.history.urls")),
    path("", include("portal.accounts.urls")),
    path("settings/", include("portal.api.token_urls")),
    path("api/v1/", include("portal.api.urls")),
    path("", include("portal.accounts.allauth_urls")),
    path("styleguide/", styleguide.styleguide, name="styleguide"),
]

# Where one of allauth's limits refuses; Django itself knows no handler for it.
handler429 = "portal.accounts.views.too_many"
