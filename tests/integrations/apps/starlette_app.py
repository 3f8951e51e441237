"""A Starlette app with each kind of response, a mount, a websocket and a background task."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute

from tests.integrations.apps.blocks import churn


@asynccontextmanager
async def lifespan(app):
    yield


async def plain(request):
    return PlainTextResponse("x" * request.path_params["number"])


async def stream(request):
    async def parts():
        for n in range(5):
            yield str(n)
            await asyncio.sleep(0)

    return StreamingResponse(parts(), media_type="text/plain")


async def fails(request):
    raise LookupError("theirs")


async def breaks_off(request):
    async def parts():
        yield "one"
        await asyncio.sleep(0)
        raise LookupError("theirs")

    return StreamingResponse(parts(), media_type="text/plain")


async def hangs(request):
    async def parts():
        while True:
            yield "x" * 1000
            await asyncio.sleep(0.01)

    return StreamingResponse(parts(), media_type="text/plain")


async def later(request):
    return PlainTextResponse("accepted", background=BackgroundTask(churn, 5_000_000))


async def echo(websocket):
    await websocket.accept()
    async for text in websocket.iter_text():
        if text == "fail":
            raise LookupError("theirs")
        churn(1_000_000)
        await websocket.send_text(text)


async def order(request):
    return PlainTextResponse("ordered")


async def foreign(scope, receive, send):
    await PlainTextResponse("foreign")(scope, receive, send)


app = Starlette(
    routes=[
        Route("/plain/{number:int}", plain),
        Route("/stream", stream),
        Route("/fails", fails),
        Route("/breaks-off", breaks_off),
        Route("/hangs", hangs),
        Route("/later", later),
        WebSocketRoute("/feed/{topic}", echo),
        Mount("/tenants/{tenant}", routes=[Route("/orders/{order}", order)]),
        Mount("/foreign", app=foreign),
    ],
    lifespan=lifespan,
)

if os.environ.get("WITH_FASTALLOC"):
    from fastalloc.integrations.starlette import Middleware

    if os.environ["WITH_FASTALLOC"] == "inside":
        app.add_middleware(Middleware)
    else:
        app = Middleware(app)
