"""Calls views through the Django middleware, and prints what spans and phases came of it.

Run by test_django.py: Django's settings are made once per process.
"""

from __future__ import annotations

import asyncio
import json
import sys
import types
from pathlib import Path

import django
from django.conf import settings
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.template import engines
from django.template.response import TemplateResponse
from django.urls import path

import fastalloc


def plain(request, number):
    return HttpResponse(b"x" * number)


async def waits(request):
    await asyncio.sleep(0)
    return HttpResponse(b"waited")


def template(request):
    return TemplateResponse(request, engines["django"].from_string("hello {{ name }}"), {"name": 1})


def stream(request):
    return StreamingHttpResponse(str(n) for n in range(5))


def file(request):
    return FileResponse(Path(__file__).open("rb"))


def fails(request):
    raise LookupError("theirs")


urlpatterns = [
    path("plain/<int:number>/", plain),
    path("waits/", waits),
    path("template/", template),
    path("stream/", stream),
    path("file/", file),
    path("fails/", fails),
]
PATHS = ("/plain/5/", "/plain/6/", "/waits/", "/template/", "/stream/", "/file/", "/fails/", "/no/")


def main(folder: str, kind: str) -> None:
    module = types.ModuleType("urls_of_this_test")
    module.urlpatterns = urlpatterns
    settings.configure(
        ROOT_URLCONF=module,
        SECRET_KEY="only for this test",
        MIDDLEWARE=["fastalloc.integrations.django.Middleware"],
        TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
        LOGGING_CONFIG=None,
    )
    django.setup()
    from django.test import AsyncClient, Client

    fastalloc.start(dir=folder)
    bodies = {}
    if kind == "sync":
        client = Client(raise_request_exception=False)
        for url in PATHS:
            response = client.get(url)
            bodies[url] = response.getvalue().decode()
            response.close()
    else:

        async def ask() -> None:
            client = AsyncClient(raise_request_exception=False)
            for url in PATHS:
                response = await client.get(url)
                if response.streaming:
                    parts = [part async for part in response]
                    bodies[url] = b"".join(parts).decode()
                else:
                    bodies[url] = response.content.decode()
                response.close()

        asyncio.run(ask())
    fastalloc.stop()
    snapshot = fastalloc.read(fastalloc.status().recording)
    records = snapshot.records
    json.dump(
        {
            "bodies": bodies,
            "spans": [str(r["name"]) for r in records if r["kind"] == "span"],
            "phases": sorted(
                {f"{r['span_name']} {r['name']}" for r in records if r["kind"] == "phase"}
            ),
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
