"""Where nothing can be recorded (FASTALLOC_DISABLED, or no core for this interpreter) requests are answered as ever."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SETUP = """
import asyncio, io, sys
import fastalloc
fastalloc.start()
assert not fastalloc.status().active
environ = {
    "REQUEST_METHOD": "GET", "PATH_INFO": "/", "SERVER_NAME": "x", "SERVER_PORT": "80", "QUERY_STRING": "",
    "wsgi.input": io.BytesIO(), "wsgi.url_scheme": "http", "wsgi.errors": sys.stderr, "SCRIPT_NAME": "",
}
def wsgi(app):
    answered = app(dict(environ), lambda status, headers, error=None: print(status))
    print(b"".join(answered).decode())
    getattr(answered, "close", lambda: None)()
def asgi(app):
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b"", "root_path": ""}
    sent = []
    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}
    async def send(message):
        sent.append(message)
    asyncio.run(app(scope, receive, send))
    print(sent[0]["status"], "OK")
    print(b"".join(message.get("body", b"") for message in sent).decode())
"""
DJANGO = """
import django
from django.conf import settings
from django.http import HttpResponse
from django.urls import path
settings.configure(
    SECRET_KEY="x", ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, LOGGING_CONFIG=None, FASTALLOC={"mode": "light"},
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.messages",
                    "django.contrib.admin", "fastalloc.integrations.django"],
    MIDDLEWARE=["fastalloc.integrations.django.Middleware", "fastalloc.integrations.django.ViewMiddleware"],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
)
urlpatterns = [path("", lambda request: HttpResponse("hello"))]
django.setup()
from django.core.wsgi import get_wsgi_application
wsgi(get_wsgi_application())
"""
PROGRAMS = {
    "wsgi": """
from fastalloc.integrations.wsgi import WSGIMiddleware
def app(environ, start_response):
    start_response("200 OK", [])
    return [b"hello"]
wsgi(WSGIMiddleware(app))
""",
    "asgi": """
from fastalloc.integrations.asgi import ASGIMiddleware
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})
asgi(ASGIMiddleware(app))
""",
    "starlette": """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from fastalloc.integrations.starlette import Middleware
async def hello(request):
    return PlainTextResponse("hello")
asgi(Middleware(Starlette(routes=[Route("/", hello)])))
""",
    "flask": """
from flask import Flask
from fastalloc.integrations.flask import Fastalloc
app = Flask(__name__)
Fastalloc(app)
app.add_url_rule("/", view_func=lambda: "hello")
wsgi(app)
""",
    "django": DJANGO,
    "jobs": """
from fastalloc.integrations.jobs import job
with job("nightly"):
    print("200 OK")
print("hello")
""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_requests_are_answered_while_fastalloc_is_disabled(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SETUP + PROGRAMS[name]],
        env={**os.environ, "FASTALLOC_DISABLED": "1"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["200", "OK", "hello"]
