"""Requests with sessions in signed cookies, of a Flask and of a Starlette app."""

from __future__ import annotations

import asyncio
import sys

import fastalloc
from fastalloc import requests
from tests.trackers.looking import answer


def flask_app():
    import flask

    app = flask.Flask(__name__)
    app.secret_key = "only for this test"

    @app.get("/keep")
    def keep():
        flask.session["cart"] = ["hunter2 " * 4] * 40
        flask.session["seen"] = 1
        return "kept"

    @app.get("/plain")
    def plain():
        return "plain"

    return app


def starlette_app():
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.sessions import SessionMiddleware
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def keep(request):
        request.session["cart"] = ["hunter2 " * 4] * 40
        return PlainTextResponse("kept")

    middleware = [Middleware(SessionMiddleware, secret_key="only for this test")]
    return Starlette(routes=[Route("/keep", keep)], middleware=middleware)


async def ask(app) -> None:
    scope = {
        **{"type": "http", "method": "GET", "path": "/keep", "raw_path": b"/keep"},
        **{"query_string": b"", "headers": [], "root_path": "", "http_version": "1.1"},
    }

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message) -> None:
        pass

    await app(scope, receive, send)


def main(folder: str) -> None:
    client = flask_app().test_client()
    without = client.get("/plain").headers.get("Vary")
    fastalloc.start(mode="aggressive", dir=folder)
    app = flask_app()
    starlette = starlette_app()
    cases = {}
    request = requests.begin("GET /keep")
    app.test_client().get("/keep")
    request.end()
    cases["flask"] = request.digests
    request = requests.begin("GET /plain")
    vary = app.test_client().get("/plain").headers.get("Vary")
    request.end()
    request = requests.begin("GET /keep")
    asyncio.run(ask(starlette))
    request.end()
    cases["starlette"] = request.digests
    answer(**cases, vary=vary, vary_without=without)


if __name__ == "__main__":
    main(*sys.argv[1:])
