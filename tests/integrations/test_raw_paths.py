"""What stands in a path is never recorded, be it a word; and a request that is killed has its route."""

from __future__ import annotations

import pytest

import fastalloc
from tests.core.conftest import allocator, programs
from tests.core.programs import Programs

__all__ = ["allocator", "programs"]

# Values that look like parts of a route. The last request is killed inside the view.
WORDS = ("alicejohnson", "qwertzuiopasdfghjkl")
PRELUDE = """
import io, os, signal, sys
import fastalloc
def view(word):
    if word == "killed": os.kill(os.getpid(), signal.SIGKILL)
def wsgi(app, path):
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "SERVER_NAME": "x", "SERVER_PORT": "80",
               "SERVER_PROTOCOL": "HTTP/1.1", "wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr,
               "wsgi.url_scheme": "http", "SCRIPT_NAME": "", "wsgi.version": (1, 0)}
    body = app(environ, lambda *a: None)
    list(body)
    getattr(body, "close", list)()
def asgi(app, path):
    import asyncio
    async def receive(): return {"type": "http.request", "body": b"", "more_body": False}
    async def send(message): pass
    scope = {"type": "http", "http_version": "1.1", "method": "GET", "path": path, "raw_path": path.encode(),
             "root_path": "", "query_string": b"", "headers": [], "scheme": "http", "server": ("a", 1)}
    asyncio.run(app(scope, receive, send))
fastalloc.start(mode="aggressive")
"""
DRIVE = """
for word in (*WORDS, "killed"):
    for path in PATHS: CALL(APP, path.replace("{}", word))
"""
STARLETTE = """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from fastalloc.integrations.starlette import Middleware
async def user(request):
    view(request.path_params["name"])
    return PlainTextResponse("x")
app = Starlette(routes=[Mount("/tenants/{tenant}", routes=[Route("/users/{name}", user)])])
"""
FASTAPI = """
from fastapi import APIRouter, FastAPI
from fastalloc.integrations.starlette import Middleware
router = APIRouter(prefix="/users")
@router.get("/{name}")
async def user(name: str): view(name)
app = FastAPI()
app.include_router(router, prefix="/v1")
"""
FLASK = """
import flask
from fastalloc.integrations.flask import Fastalloc
app = flask.Flask("shop")
Fastalloc(app)
@app.get("/users/<name>")
def user(name):
    view(name)
    return "x"
"""
DJANGO = """
from django.conf import settings
settings.configure(SECRET_KEY="x", ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__,
                   MIDDLEWARE=["fastalloc.integrations.django.Middleware"])
import django
django.setup()
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path, re_path
def user(request, name):
    view(name)
    return HttpResponse("x")
urlpatterns = [path("users/<str:name>/", user), re_path(r"^re/(?P<name>[a-z]+)/(\\\\d+/)?$", user)]
app = get_wsgi_application()
"""
PLAIN_WSGI = """
from fastalloc.integrations.wsgi import WSGIMiddleware
def app(environ, start_response):
    view(environ["PATH_INFO"].rpartition("/")[2])
    start_response("200 OK", [])
    return [b"x"]
app = WSGIMiddleware(app)
"""
PLAIN_ASGI = """
from fastalloc.integrations.asgi import ASGIMiddleware
async def app(scope, receive, send):
    view(scope["path"].rpartition("/")[2])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x"})
app = ASGIMiddleware(app)
"""
INSIDE = STARLETTE + "app.add_middleware(Middleware)\n"
AROUND = "app = Middleware(app)\n"
TENANT = "GET /tenants/{tenant}/users/{name}"


@pytest.mark.parametrize(
    ("package", "call", "app", "path", "route"),
    [
        ("starlette", "asgi", STARLETTE + AROUND, "/tenants/{}/users/{}", TENANT),
        ("starlette", "asgi", INSIDE, "/tenants/{}/users/{}", TENANT),
        ("fastapi", "asgi", FASTAPI + AROUND, "/v1/users/{}", "GET /v1/users/{name}"),
        ("flask", "wsgi", FLASK, "/users/{}", "GET /users/<name>"),
        ("django", "wsgi", DJANGO, "/users/{}/", "GET /users/<str:name>/"),
        ("django", "wsgi", DJANGO, "/re/{}/", "GET /re/<name>/<var>"),
        ("fastalloc", "wsgi", PLAIN_WSGI, "/users/{}", "GET (no route)"),
        ("fastalloc", "asgi", PLAIN_ASGI, "/users/{}", "GET (no route)"),
    ],
)
def test_no_word_of_a_path_is_recorded(
    programs: Programs, package: str, call: str, app: str, path: str, route: str
) -> None:
    pytest.importorskip(package)
    drive = f"CALL, APP, PATHS, WORDS = {call}, app, ['/none/{{}}', {path!r}], {WORDS!r}"
    done = programs.run(PRELUDE + app + drive + DRIVE, returncode=-9)
    [recording] = done.directory.glob("*.recording")
    snapshot = fastalloc.read(recording)
    running = [str(span["name"]) for span in snapshot.spans if span["id"] and not span["end_ns"]]
    assert running == [route]
    names = {str(phase["span_name"]) for phase in snapshot.phases if phase["span_name"]}
    assert names == {route, "GET (no route)"}
    for file in done.directory.iterdir():
        content = file.read_bytes()
        assert not [word for word in WORDS if word.encode() in content], file.name
