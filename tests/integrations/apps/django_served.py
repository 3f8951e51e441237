"""A Django site for real servers: `application` for WSGI, `asgi` for ASGI. Its settings name fastalloc in
MIDDLEWARE alone; without WITH_FASTALLOC not at all."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import django
from django.conf import settings
from django.core.signals import request_finished
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.template.response import TemplateResponse
from django.urls import path, re_path

from tests.integrations.apps.blocks import churn

TEMPLATES = {"page.html": "{% include 'part.html' %} for {{ name }}", "part.html": "{{ churned }}"}
OURS = ["fastalloc.integrations.django.Middleware"] if os.environ.get("WITH_FASTALLOC") else []
LAST = ["fastalloc.integrations.django.ViewMiddleware"] if OURS else []


class Churned:
    """Allocates when it is rendered."""

    def __str__(self) -> str:
        churn(4_000_000)
        return "churned"


def around(get_response):
    """A middleware that allocates before and after the view, and has another URLconf for some."""

    def middleware(request):
        churn(1_000_000)
        if request.path_info.startswith("/other/"):
            request.urlconf = "tests.integrations.apps.django_other_urls"
        response = get_response(request)
        churn(2_000_000)
        return response

    return middleware


def user(request, name):
    churn(3_000_000)
    return HttpResponse("x")


def page(request, name):
    churn(3_000_000)
    return render(request, "page.html", {"name": "page", "churned": Churned()})


def lazy_page(request, name):
    churn(3_000_000)
    return TemplateResponse(request, "page.html", {"name": "page", "churned": Churned()})


def stream(request):
    def parts():
        for n in range(3):
            churn(5_000_000)
            yield str(n)

    return StreamingHttpResponse(parts())


def file(request):
    return FileResponse(Path(__file__).open("rb"))


async def waits(request):
    await asyncio.sleep(0)
    churn(3_000_000)
    return HttpResponse("waited")


def fails(request):
    raise LookupError("theirs")


def bad_page(request):
    return render(request, "page.html", {"churned": Failing()})


class Failing:
    def __str__(self) -> str:
        raise LookupError("theirs")


def finished(sender, **_):
    churn(6_000_000)


urlpatterns = [
    path("users/<str:name>/", user),
    re_path(r"^years/(?P<year>[a-z0-9]+)/$", lambda request, year: HttpResponse("year")),
    path("pages/<str:name>/", page),
    path("lazy/<str:name>/", lazy_page),
    path("stream/", stream),
    path("file/", file),
    path("waits/", waits),
    path("fails/", fails),
    path("bad-page/", bad_page),
]
settings.configure(
    SECRET_KEY="only for this test",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=[*OURS, f"{__name__}.around", *LAST],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "OPTIONS": {"loaders": [("django.template.loaders.locmem.Loader", TEMPLATES)]},
        }
    ],
    LOGGING={
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"console": {"class": "logging.StreamHandler"}},
        "loggers": {"django.request": {"handlers": ["console"]}},
    },
    FASTALLOC={"mode": "aggressive"},
)
django.setup()
request_finished.connect(finished)

from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402

application = get_wsgi_application()
asgi = get_asgi_application()
assert OURS or "fastalloc" not in sys.modules
