"""The ASGI middleware, stepped by hand and under a real uvicorn."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
import urllib.request
from types import SimpleNamespace

import pytest

from fastalloc.integrations.asgi import ASGIMiddleware


@pytest.fixture
def scopes(recorded):
    return recorded


def http(path: str = "/", **more) -> dict:
    return {"type": "http", "method": "GET", "path": path, "root_path": "", **more}


async def receive() -> dict:
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(message: dict) -> None: ...


async def hello(scope, receive, send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


def call(app, scope: dict) -> None:
    asyncio.run(app(scope, receive, send))


def test_a_request_is_a_span(scopes) -> None:
    call(ASGIMiddleware(hello), http("/orders/7"))
    assert scopes == [
        "serving",
        "+span GET (no route)",
        "+phase app",
        "-phase app",
        "+phase stream",
        "-phase stream",
        "+phase background",
        "-phase background",
        "-span GET (no route)",
    ]


def test_a_response_sent_by_another_task_is_a_phase_inside_the_applications(scopes) -> None:
    async def app(scope, receive, send) -> None:
        await asyncio.create_task(hello(scope, receive, send))

    call(ASGIMiddleware(app), http())
    assert scopes == [
        *("serving", "+span GET (no route)", "+phase app", "+inner stream", "-inner stream"),
        *("-phase app", "-span GET (no route)"),
    ]


def test_a_websocket_is_a_span(scopes) -> None:
    call(ASGIMiddleware(hello), {"type": "websocket", "path": "/feed"})
    assert scopes[1] == "+span WEBSOCKET (no route)"


def test_the_lifespan_passes_through(scopes) -> None:
    seen = []

    async def app(scope, receive, send) -> None:
        seen.append((scope, receive, send))

    scope = {"type": "lifespan"}
    call(ASGIMiddleware(app), scope)
    assert len(seen) == 1
    assert seen[0][0] is scope
    assert seen[0][1] is receive
    assert scopes == []


def test_scope_receive_and_messages_are_handed_on_as_they_are(scopes) -> None:
    seen = []

    async def app(scope, receive, send) -> None:
        seen.extend([scope, receive])
        for message in messages:
            await send(message)

    async def send(message) -> None:
        seen.append(message)

    scope = http()
    messages = [
        {"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]},
        {"type": "http.response.body", "body": b"1", "more_body": True},
        {"type": "http.response.body", "body": b"2"},
        {"type": "theirs"},
    ]
    asyncio.run(ASGIMiddleware(app)(scope, receive, send))
    assert len(seen) == 2 + len(messages)
    assert all(one is other for one, other in zip(seen, [scope, receive, *messages], strict=True))


def test_an_error_passes_untouched(scopes) -> None:
    error = LookupError("theirs")

    async def app(scope, receive, send) -> None:
        raise error

    with pytest.raises(LookupError) as caught:
        call(ASGIMiddleware(app), http())
    assert caught.value is error
    assert error.__context__ is None
    assert scopes[-1] == "-span GET (no route) LookupError"


def test_cancellation_ends_the_span(scopes) -> None:
    async def app(scope, receive, send) -> None:
        await asyncio.sleep(30)

    async def main() -> None:
        task = asyncio.ensure_future(ASGIMiddleware(app)(http(), receive, send))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert scopes[-1] == "-span GET (no route) CancelledError"


@pytest.mark.parametrize(
    ("left_behind", "name"),
    [
        ({"route": SimpleNamespace(path="/items/{item}")}, "GET /items/{item}"),
        (
            {"route": SimpleNamespace(path="/items/{item}"), "root_path": "/secret"},
            "GET /items/{item}",  # the application's own root, no mount
        ),
        (
            {
                "route": SimpleNamespace(path="/items/{item}"),
                "root_path": "/secret",
                "app_root_path": "",
            },
            "GET (mount)/items/{item}",
        ),
        ({"path_params": {"item": "blue"}}, "GET (no route)"),
        ({"route": 7, "path_params": 7}, "GET (no route)"),
    ],
)
def test_the_frameworks_route_is_found_afterwards(scopes, left_behind, name) -> None:
    async def app(scope, receive, send) -> None:
        scope.update(left_behind)

    call(ASGIMiddleware(app), http("/items/blue"))
    assert scopes[-1] == f"-span {name}"


def test_a_given_name_wins(scopes) -> None:
    async def app(scope, receive, send) -> None:
        scope["route"] = SimpleNamespace(path="/theirs")

    call(ASGIMiddleware(app, name=lambda scope: "GET /mine"), http())
    assert scopes[-1] == "-span GET /mine"


def test_a_given_name_wins_where_the_path_is_changed_too(scopes) -> None:
    async def app(scope, receive, send) -> None:
        scope.update(path="/rewritten", route=SimpleNamespace(path="/theirs"))
        await hello(scope, receive, send)

    call(ASGIMiddleware(app, name=lambda scope: "GET /mine"), http())
    assert scopes[-1] == "-span GET /mine"


def test_a_naming_error_costs_only_the_name(scopes) -> None:
    call(ASGIMiddleware(hello, name=lambda scope: 1 / 0), http("/orders/1/"))
    assert "+span GET (no route)" in scopes


def test_uvicorn_serves_it(scopes) -> None:
    uvicorn = pytest.importorskip("uvicorn")
    lifespan = []

    async def app(scope, receive, send) -> None:
        if scope["type"] == "http":
            await hello(scope, receive, send)
            return
        for _ in range(2):
            lifespan.append((await receive())["type"])
            await send({"type": f"{lifespan[-1]}.complete"})

    config = uvicorn.Config(
        ASGIMiddleware(app), host="127.0.0.1", port=0, log_level="error", lifespan="on"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + 10
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/a/1", timeout=10) as response:
            assert response.read() == b"hello"
    finally:
        server.should_exit = True
        thread.join(10)
    assert "+span GET (no route)" in scopes
    assert lifespan == ["lifespan.startup", "lifespan.shutdown"]


COUNTED_UNDER_UVLOOP = """
import asyncio, ctypes, json, sys
import uvloop
import fastalloc
from fastalloc.integrations.asgi import ASGIMiddleware

allocate = ctypes.pythonapi.PyMem_RawMalloc
allocate.restype, allocate.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
free = ctypes.pythonapi.PyMem_RawFree
free.restype, free.argtypes = None, [ctypes.c_void_p]

async def app(scope, receive, send):
    for _ in range(5):
        free(allocate(1_000_003 * (scope["number"] + 1)))
        await asyncio.sleep(0)

async def main():
    served = ASGIMiddleware(app)
    scopes = [{"type": "http", "method": "GET", "path": "/x", "number": n} for n in range(60)]
    await asyncio.gather(*[served(scope, None, None) for scope in scopes])

fastalloc.start(dir=sys.argv[1], interval_bytes=65536)
uvloop.install()
asyncio.run(main())
records = fastalloc.snapshot().records
spans = records[records["kind"] == "span"]
print(json.dumps({int(r["span_id"]): int(r["bytes"]) for r in spans}))
"""


def test_interleaved_requests_are_counted_exactly_under_uvloop(tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COUNTED_UNDER_UVLOOP, str(tmp_path / "r")],
        capture_output=True,
        text=True,
        check=True,
    )
    counted = {int(span): count for span, count in json.loads(done.stdout).items()}
    assert len(counted) == 60
    for number, span in enumerate(sorted(counted)):
        # Besides the known blocks: what the loop itself allocates, far less than one of them.
        assert 0 <= counted[span] - 5 * 1_000_003 * (number + 1) < 200_000
