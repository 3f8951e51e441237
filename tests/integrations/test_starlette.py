"""Starlette under a real uvicorn: routes, phases, websockets, errors, disconnects."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from tests.integrations.servers import APPS, UVICORN, phases, serving, snapshots, spans

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
websockets = pytest.importorskip("websockets")
pytestmark = pytest.mark.slow

PATHS = (
    *("/plain/5", "/plain/6", "/stream", "/fails", "/later", "/none/at/all"),
    *("/tenants/acme/orders/7a", "/tenants/other/orders/8", "/foreign/x/y", "/plain/five"),
)


def talk(port: int, *texts: str) -> list[str]:
    async def main() -> list[str]:
        answers = []
        async with websockets.connect(f"ws://127.0.0.1:{port}/feed/news") as connection:
            try:
                for text in texts:
                    await connection.send(text)
                    answers.append(await connection.recv())
            except websockets.ConnectionClosed as closed:
                answers.append(str(closed.rcvd.code if closed.rcvd else "cut"))
        return answers

    return asyncio.run(main())


def hang_up(port: int) -> None:
    """Ask for a response without an end, and leave."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET /hangs HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200" in connection.recv(1000)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """What clients saw, without fastalloc, around the app and inside it; folders; logs."""
    seen, folders, logs = [], [], []
    for flag in ("", "around", "inside"):
        folder = tmp_path_factory.mktemp("starlette")
        mode = {"FASTALLOC_MODE": "light" if flag else "disabled"}
        command = (*UVICORN, f"{APPS}.starlette_app:app")
        with serving(folder, *command, ready="running", WITH_FASTALLOC=flag, **mode) as server:
            got = [server.get(path) for path in PATHS]
            got.append(talk(server.port, "one", "two"))
            got.append(talk(server.port, "one", "fail"))
            hang_up(server.port)
            with pytest.raises(Exception, match=r"IncompleteRead|closed|reset"):
                server.get("/breaks-off")
            time.sleep(0.2)
        seen.append(got)
        folders.append(server.folder)
        logs.append(server.log.read_text())
    return seen, folders, logs


def test_clients_see_no_difference(served) -> None:
    without, around, inside = served[0]
    assert without == around == inside
    assert without[-2] == ["one", "two"]
    assert without[-1][0] == "one"


EXPECTED = {
    "GET /plain/{number:int}": 2,
    "GET /stream": 1,
    "GET /fails": 1,
    "GET /later": 1,
    "GET (no route)": 2,
    "GET /tenants/{tenant}/orders/{order}": 2,
    "GET /foreign/{path}": 1,
    "WEBSOCKET /feed/{topic}": 2,
    "GET /hangs": 1,
    "GET /breaks-off": 1,
}


@pytest.mark.parametrize("place", [1, 2])
def test_requests_are_named_by_their_route(served, place) -> None:
    assert spans(served[1][place]) == EXPECTED


def test_phases_tell_response_and_background_apart(served) -> None:
    found = phases(served[1][1])
    assert found["GET /plain/{number:int}"] == ["app", "stream", "background"]
    assert found["GET /stream"] == ["stream", "app"]  # sent by a task of its own, inside
    [snapshot] = snapshots(served[1][1])
    later = {
        str(record["name"]): int(record["bytes"])
        for record in snapshot.records
        if record["kind"] == "phase" and str(record["span_name"]) == "GET /later"
    }
    assert later["background"] >= 5_000_000 > later["app"] + later["stream"]


@pytest.mark.parametrize("place", [1, 2])
def test_errors_show_the_programs_frames_alone(served, place) -> None:
    log = served[2][place]
    assert log.count("LookupError: theirs") >= 3  # a view, a stream, a websocket
    assert "src/fastalloc" not in log and "_scopes.pxi" not in log


def test_a_graceful_stop_is_noted(served) -> None:
    for folder in served[1][1:]:
        [snapshot] = snapshots(folder)
        assert snapshot.exit_kind == "clean"
        assert str(snapshot.phases["name"][snapshot.header["process_phase"]]) == "serving"
