"""The shop as most projects would record it: by the line in MIDDLEWARE and nothing around the application; the
guilty pages under routes with a number in them. Settings, urls and ASGI application in one: run by
test_scenarios.py.
"""

from __future__ import annotations

import fastalloc  # noqa: F401  with FASTALLOC_MODE set, recording starts here
from fastalloc.demo.project import settings
from fastalloc.demo.project.settings import *  # noqa: F403

MIDDLEWARE = ["fastalloc.integrations.django.Middleware", *settings.MIDDLEWARE]
ROOT_URLCONF = __name__

# Settings end here: to make the application, Django reads this module as they are by now.
from django.core.asgi import get_asgi_application  # noqa: E402

application = get_asgi_application()

from django.urls import path  # noqa: E402

from fastalloc.demo.project import urls  # noqa: E402
from fastalloc.demo.shop import scenarios  # noqa: E402


def numbered(view):
    def view_of_shop(request, shop: int):
        return view(request)

    return view_of_shop


urlpatterns = [
    *urls.urlpatterns,
    path("shops/<int:shop>/session/", numbered(scenarios.session_bloat)),
    path("shops/<int:shop>/scope/", numbered(scenarios.scope_explosion)),
    path("shops/<int:shop>/repeats/", numbered(scenarios.repeated_queries)),
    path("shops/<int:shop>/large/", numbered(scenarios.large_result)),
    path("shops/<int:shop>/innocent/", numbered(scenarios.innocent)),
]
