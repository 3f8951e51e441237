"""A Django site in one module: settings, routes and views, with users and sessions in memory."""

from __future__ import annotations

import json
import os
import sys
import types

from django.conf import settings
from django.http import HttpResponse, JsonResponse
from django.template import engines
from django.template.response import TemplateResponse
from django.urls import path

from fastalloc import requests


def order(request, number):
    current = requests.current()
    return JsonResponse({"chosen": current.chosen if current else None, "id": current.id})


async def order_async(request, number):
    return order(request, number)


def page(request):
    return TemplateResponse(request, engines["django"].from_string("hello"))


def whoami(request):
    return HttpResponse(str(request.user.is_authenticated))


def fails(request):
    raise LookupError("theirs")


def configure(**more) -> None:
    """Settings of the site; `more` wins."""
    urls = types.ModuleType("urls_of_the_site")
    urls.urlpatterns = [
        path("orders/<int:number>/", order),
        path("async/<int:number>/", order_async),
        path("page/", page),
        path("whoami/", whoami),
        path("fails/", fails),
    ]
    sys.modules["urls_of_the_site"] = urls
    values = {
        "ROOT_URLCONF": "urls_of_the_site",
        "SECRET_KEY": "only for this test",
        "ALLOWED_HOSTS": ["*"],
        "MIDDLEWARE": [
            "fastalloc.integrations.django.Middleware",
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        "INSTALLED_APPS": [
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "fastalloc.integrations.django",
        ],
        "DATABASES": {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        "TEMPLATES": [{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
        "DEFAULT_AUTO_FIELD": "django.db.models.BigAutoField",
    }
    settings.configure(**{**values, **more})


if os.environ.get("SITE_SETTINGS"):
    configure(**json.loads(os.environ["SITE_SETTINGS"]))
