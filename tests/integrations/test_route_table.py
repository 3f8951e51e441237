"""Which route an application will take, told before it does, as the application itself then takes it."""

from __future__ import annotations

import asyncio
import re

import pytest

pytest.importorskip("starlette")
from starlette.applications import Starlette
from starlette.middleware import Middleware as Added
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount, Route, Router, WebSocketRoute

from fastalloc.integrations._route_table import below_root, table_of


async def answer(request):
    return PlainTextResponse(str(sorted(request.path_params)))


async def raw(scope, receive, send):
    await PlainTextResponse("raw")(scope, receive, send)


class Passing:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        await self.app(scope, receive, send)


def application() -> Starlette:
    shop = Starlette(routes=[Route("/orders/{order}", answer), Mount("/deep/{level}", routes=[])])
    return Starlette(
        routes=[
            Route("/", answer),
            Route("/users/me", answer),
            Route("/users/{name}", answer),
            Route("/users/{name}", answer, methods=["DELETE"]),
            Route("/numbers/{number:int}", answer),
            Route("/files/{path:path}", answer, methods=["PUT"]),
            WebSocketRoute("/feed/{topic}", answer),
            Mount("/shops/{shop}", app=shop, middleware=[Added(Passing)]),
            Mount("/static", app=raw),
            Host("{sub}.example.org", app=Router([Route("/hosted/{word}", answer)])),
        ]
    )


def find(method: str, path: str, kind: str = "http", host: str = "x") -> str | None:
    found = table_of(Passing(Passing(application())))
    assert found is not None
    headers = [(b"host", host.encode())]
    scope = {"type": kind, "method": method, "path": path, "root_path": "", "headers": headers}
    return found[0].find(scope, path)


@pytest.mark.parametrize(
    ("method", "path", "template"),
    [
        ("GET", "/", "/"),
        ("GET", "/users/me", "/users/me"),
        ("GET", "/users/ann", "/users/{name}"),
        ("HEAD", "/users/ann", "/users/{name}"),
        ("DELETE", "/users/ann", "/users/{name}"),
        ("DELETE", "/users/me", "/users/{name}"),  # the first that takes the method, too
        ("POST", "/users/ann", "/users/{name}"),  # 405
        ("GET", "/numbers/7", "/numbers/{number:int}"),
        ("GET", "/numbers/seven", None),
        ("GET", "/files/a/b", "/files/{path:path}"),
        ("GET", "/feed/news", None),
        ("GET", "/shops/north/orders/word", "/shops/{shop}/orders/{order}"),
        ("GET", "/shops/north/none", "(no route)"),
        ("GET", "/static/a/b.css", "/static/{path}"),
        ("GET", "/none", None),
    ],
)
def test_the_first_route_that_takes_path_and_method_is_told(method, path, template) -> None:
    assert find(method, path) == template


def test_websockets_and_hosts_have_routes_of_their_own() -> None:
    assert find("", "/feed/news", "websocket") == "/feed/{topic}"
    assert find("GET", "/hosted/word", host="a.example.org") == "/hosted/{word}"
    assert find("GET", "/hosted/word") is None


def test_it_is_the_route_that_the_application_takes() -> None:
    """By the parameters that the endpoint is given: none, or those of the template."""
    app = application()
    for path in ("/", "/users/me", "/users/ann", "/numbers/7", "/shops/north/orders/word"):
        sent = []

        async def send(message, sent=sent):
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": path, "root_path": "", "headers": []}
        asyncio.run(app(dict(scope), None, send))
        template = find("GET", path)
        assert sent[1]["body"].decode() == str(sorted(re.findall(r"{(\w+)", template)))


def test_routes_added_later_are_seen() -> None:
    app = application()
    table, _ = table_of(app)
    scope = {"type": "http", "method": "GET", "path": "/late/x", "root_path": "", "headers": []}
    assert table.find(scope, "/late/x") is None
    app.routes.append(Route("/late/{word}", answer))
    assert table.find(scope, "/late/x") == "/late/{word}"


def test_an_application_without_routes_has_no_table() -> None:
    assert table_of(raw) is None


@pytest.mark.parametrize(
    ("path", "root", "below"),
    [
        ("/api/users", "/api", "/users"),
        ("/api", "/api", ""),
        ("/apix/users", "/api", "/apix/users"),
        ("/users", "/api", "/users"),
        ("/users", "", "/users"),
    ],
)
def test_the_root_is_taken_off_where_it_is_one(path, root, below) -> None:
    assert below_root(path, root) == below


def test_fastapis_included_routers_are_told_with_their_prefixes() -> None:
    fastapi = pytest.importorskip("fastapi")
    inner = fastapi.APIRouter(prefix="/inner")
    inner.add_api_route("/{word}", lambda word: word)
    outer = fastapi.APIRouter()
    outer.include_router(inner, prefix="/{outer}")
    app = fastapi.FastAPI()
    app.include_router(outer, prefix="/v1")
    app.include_router(inner, prefix="/v2")
    table, _ = table_of(app)
    scope = {"type": "http", "method": "GET", "root_path": "", "headers": []}
    assert table.find(scope, "/v1/x/inner/word") == "/v1/{outer}/inner/{word}"
    assert table.find(scope, "/v2/inner/word") == "/v2/inner/{word}"
