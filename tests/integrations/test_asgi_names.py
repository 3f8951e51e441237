"""What ASGI's requests are called, by what is known of their routes before and after."""

from __future__ import annotations

import asyncio
import gc
import types

import pytest

from fastalloc.integrations._names import MAX_NAMES
from fastalloc.integrations.asgi import ASGIMiddleware


def http(**more) -> dict:
    return {"type": "http", "method": "GET", "path": "/a", "root_path": "", **more}


async def receive() -> dict:
    return {"type": "http.request", "body": b"", "more_body": False}


async def nothing(message) -> None: ...


async def answer(scope, receive, send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x"})


def test_there_is_an_end_of_names(recorded) -> None:
    async def app(scope, receive, send) -> None:
        scope["route"] = types.SimpleNamespace(path=scope["path"])
        await answer(scope, receive, send)

    async def main() -> None:
        middleware = ASGIMiddleware(app)
        for _ in range(2):
            for number in range(MAX_NAMES + 20):
                await middleware(http(path=f"/{number}"), receive, nothing)
        kept = [found for found in gc.get_referents(middleware._opener) if isinstance(found, dict)]
        ready = [
            by_route for found in kept for by_route in found.values() if isinstance(by_route, dict)
        ]
        assert [len(by_route) for by_route in ready] == [MAX_NAMES]

    asyncio.run(main())
    names = {request.name for request in recorded.ended}
    assert len(names) == MAX_NAMES + 1
    assert "GET (other)" in names


def test_each_method_of_a_route_has_its_name(recorded) -> None:
    async def app(scope, receive, send) -> None:
        scope["route"] = types.SimpleNamespace(path="/{a}")
        await answer(scope, receive, send)

    async def main() -> None:
        middleware = ASGIMiddleware(app)
        for method in ("GET", "POST", "get", "ODD", "GET", "POST", "get", "ODD"):
            await middleware(http(method=method), receive, nothing)

    asyncio.run(main())
    expected = ["GET /{a}", "POST /{a}", "GET /{a}", "(other) /{a}"]
    assert [request.name for request in recorded.ended] == expected * 2


def test_a_subclass_names_requests_in_its_own_way(recorded) -> None:
    class Ahead(ASGIMiddleware):
        def _name_ahead(self, scope):
            return {"/a": "GET /ahead", "/b": None}[scope["path"]]

        def _route_taken(self, scope, path, root):
            return "/taken"

    async def rewritten(scope, receive, send) -> None:
        scope["path"] = "/c"
        await answer(scope, receive, send)

    for app, path in ((answer, "/a"), (answer, "/b"), (answer, "/broken"), (rewritten, "/a")):
        asyncio.run(Ahead(app)(http(path=path), receive, nothing))
    names = [request.name for request in recorded.ended]
    assert names == ["GET /ahead", "GET /taken", "GET /taken", "GET /taken"]


def test_known_names_go_with_the_routes(recorded) -> None:
    pytest.importorskip("starlette")
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    from fastalloc.integrations.starlette import Middleware

    async def view(request):
        return PlainTextResponse("x")

    app = Starlette(routes=[Route("/x/{a}", view)])
    middleware = Middleware(app)

    async def main() -> None:
        for path in ("/x/1", "/x/1", "/y/1", "/y/1"):
            await middleware(http(path=path, headers=[]), receive, nothing)
        app.routes.append(Route("/y/{b}", view))
        for path in ("/y/1", "/x/1", "/y/1"):
            await middleware(http(path=path, headers=[]), receive, nothing)

    asyncio.run(main())
    names = [request.name for request in recorded.ended]
    assert names == ["GET /x/{a}"] * 2 + ["GET (no route)"] * 2 + [
        "GET /y/{b}",
        "GET /x/{a}",
        "GET /y/{b}",
    ]
