"""FastAPI under a real uvicorn, on both event loops: interleaved requests, counted exactly."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from tests.integrations.servers import APPS, UVICORN, serving, snapshots

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytestmark = pytest.mark.slow

MEGA = 1_000_003
REQUESTS = 1000
AT_ONCE = 50
KINDS = ("coroutine", "function", "children", "dependency")
NOISE_BYTES = 300_000  # what FastAPI, Starlette and uvicorn allocate for a request, at most


async def _connection(
    port: int, numbers: itertools.count, truth: dict[int, tuple[str, int]]
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while (number := next(numbers)) < REQUESTS:
        kind, count = KINDS[number % 4], number % 37 + 1
        writer.write(f"GET /{kind}/{count} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        length = int(head.lower().partition(b"content-length:")[2].split()[0])
        truth[int(await reader.readexactly(length))] = (kind, 3 * count * MEGA)
    writer.close()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_thousand_interleaved_requests_are_counted_exactly(loop: str, tmp_path) -> None:
    pytest.importorskip(loop)
    truth: dict[int, tuple[str, int]] = {}

    async def drive(port: int) -> None:
        numbers = itertools.count()
        await asyncio.gather(*[_connection(port, numbers, truth) for _ in range(AT_ONCE)])

    command = (*UVICORN, "--loop", loop, "--no-access-log", f"{APPS}.fastapi_app:app")
    with serving(tmp_path, *command, ready="running", FASTALLOC_SCALE="8") as server:
        warm = [int(server.get(f"/{kind}/0").body) for kind in KINDS]  # imports at the first use
        asyncio.run(drive(server.port))
    assert len(truth) == REQUESTS  # each its own span, known inside
    [snapshot] = snapshots(server.folder)
    spans = {int(r["span_id"]): r for r in snapshot.records if r["kind"] == "span"}
    for span in warm:
        del spans[span]
    assert spans.keys() == truth.keys()
    wrong = {
        span: (kind, int(spans[span]["bytes"]) - size)
        for span, (kind, size) in truth.items()
        if not 0 <= int(spans[span]["bytes"]) - size < NOISE_BYTES
        or str(spans[span]["name"]) != f"GET /{kind}/{{count}}"
    }
    assert not wrong
    # Nothing was counted twice, or for nobody: the parts add up to the process.
    assert sum(int(p["bytes"]) for p in snapshot.phases) == snapshot.total_bytes


def test_an_error_in_a_threads_endpoint_shows_the_programs_frames_alone(tmp_path) -> None:
    command = (*UVICORN, f"{APPS}.fastapi_app:app")
    with serving(tmp_path, *command, ready="running") as server:
        assert server.get("/fails/1").status == 500
    log = server.log.read_text()
    assert "LookupError: theirs" in log
    assert "src/fastalloc" not in log and "_scopes.pxi" not in log
