"""The side-by-side of services: what its load tells, and what the table makes of it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from benchmarks.interpreters import describe
from benchmarks.service_load import send

from benchmarks import counting, service_counts, services

SERVED_SECONDS = 0.02


class Slow(BaseHTTPRequestHandler):
    """Takes SERVED_SECONDS for a request; its server answers one at a time."""

    def do_GET(self) -> None:
        time.sleep(SERVED_SECONDS)
        self.send_response(404 if self.path == "/lost/" else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def test_a_service_that_falls_behind_the_rate_cannot_hide_it(port: int) -> None:
    # the last of 10 is due after 9 ms, and 10 take 200 ms one after the other, however fast the machine is
    answer = send(port, ["/"], 10, rate=1000)
    assert len(answer["milliseconds"]) == 10
    assert max(answer["milliseconds"]) >= 10 * 1000 * SERVED_SECONDS - 9


def test_what_is_not_answered_well_is_told_and_not_timed(port: int) -> None:
    answer = send(port, ["/", "/lost/"], 4, rate=0)
    assert len(answer["milliseconds"]) == 2
    assert answer["failed"] == ["/lost/: 404"] * 2


def turns(cpu_ms: float, per_second: float) -> list[dict[str, Any]]:
    """Turns of the same CPU time, with latencies of 1 to 100 ms."""
    taken = [float(each) for each in range(1, 101)]
    turn = {"cpu_seconds": cpu_ms / 1000, "per_second": per_second, "milliseconds": taken}
    return [turn] * 4


def test_the_table_sets_each_variant_beside_none_and_tells_failures() -> None:
    launch = {
        "rate": 30.0,
        "turns": {"none": turns(10, 90), "light_100": turns(11, 80)},
        "failed": {"silk": "exit status 1: Traceback\nImportError: no silk"},
    }
    document = {"interpreter": {"label": "this"}, "launches": {"django": [launch], "fastapi": []}}
    rows = {row[0]: list(row[1:]) for row in services.table([document]).rows}
    title = services.APPS["django"].title
    assert rows[f"{title}: none"] == ["10.00 ms", "50.50", "99.01", "90"]
    told = rows[f"{title}: fastalloc light, trackers at 100 %"]
    assert told[0].startswith("1.100 (1.100-1.100)")
    assert told[3] == "80"
    assert rows[f"{title}: django-silk"][0] == "failed: exit status 1: ImportError: no silk"
    assert rows[f"{title}: ddtrace-run, profiling"] == ["-"] * 4


@pytest.mark.slow
@pytest.mark.parametrize("app", list(services.APPS))
def test_a_launch_measures_each_variant_and_names_one_that_fails(
    app: str, monkeypatch: pytest.MonkeyPatch
) -> None:

    pytest.importorskip("gunicorn")
    broken = services.Variant("broken", {"FASTALLOC_MODE": "light"}, proof=lambda service: False)
    monkeypatch.setitem(services.VARIANTS, "broken", broken)
    names = ["none", "light_100", "broken"]
    found = services.launch(describe(sys.executable), app, names, 1, turns=1, turn_seconds=0.2)
    assert set(found["turns"]) == {"none", "light_100"}
    assert "saw none" in found["failed"]["broken"]
    for each in found["turns"].values():
        assert each[0]["cpu_seconds"] > 0
        assert len(each[0]["milliseconds"]) % len(services.APPS[app].paths) == 0


def test_counts_stand_beside_those_of_none_and_failures_are_told() -> None:
    document = {
        "interpreter": {"label": "this"},
        "counts": {"django": {"none": 20e6, "light_0": 20.1e6}, "fastapi": {"light_0": 3e6}},
        "failed": {"django, forward": "exit status 1"},
    }
    rows = {row[0]: row[1] for row in service_counts.table([document]).rows}
    title = service_counts.TITLES["django"]
    assert rows == {
        f"{title}: none": "20.00 M",
        f"{title}: hooks as ours that only forward": "failed",
        f"{title}: fastalloc light, trackers at 0 %": "1.0050",
    }


@pytest.mark.slow
@pytest.mark.skipif(bool(counting.missing()), reason=counting.missing())
@pytest.mark.parametrize("app", list(services.APPS))
def test_a_request_is_counted_under_its_server(app: str) -> None:
    pytest.importorskip("uvicorn")
    counted = service_counts.count(describe(sys.executable), app, "light_0", rounds=2)
    # Not nothing, and not the server's start: that is thousands of millions.
    assert 1e5 < counted < 1e8
