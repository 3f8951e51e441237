"""uvicorn: worker processes, a reload, a graceful stop."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integrations.servers import APPS, UVICORN, serving, snapshots

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytestmark = pytest.mark.slow

APP = f"{APPS}.starlette_app:app"


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def of_requests(folder: Path) -> list:
    return [snapshot for snapshot in snapshots(folder) if len(snapshot.records)]


def test_worker_processes_have_recordings_of_their_own(tmp_path) -> None:
    command = (*UVICORN, "--workers", "2", APP)
    with serving(tmp_path, *command, ready="startup complete", WITH_FASTALLOC="1") as server:
        wait_for(lambda: server.log.read_text().count("startup complete") == 2)
        for _ in range(40):
            assert server.get("/plain/5").status == 200
    working = of_requests(server.folder)
    assert 1 <= len(working) <= 2
    names = [str(r["name"]) for s in working for r in s.records if r["kind"] == "span"]
    assert names == ["GET /plain/{number:int}"] * 40
    for snapshot in working:
        assert snapshot.exit_kind == "clean"  # the lifespan told of the end
        assert str(snapshot.phases["name"][snapshot.header["process_phase"]]) == "serving"
    assert "fastalloc" not in server.log.read_text()


def test_a_reload_goes_on_in_another_recording(tmp_path) -> None:
    watched = tmp_path / "watched"
    watched.mkdir()
    (watched / "changed.py").write_text("changed = False\n")
    command = (*UVICORN, "--reload", "--reload-dir", str(watched), APP)
    with serving(tmp_path, *command, ready="startup complete", WITH_FASTALLOC="1") as server:
        assert server.get("/plain/5").status == 200
        time.sleep(1)  # uvicorn has looked at the file once
        (watched / "changed.py").write_text("changed = True\n")
        wait_for(lambda: server.log.read_text().count("startup complete") == 2)
        assert server.get("/plain/6").status == 200
    first, second = of_requests(server.folder)
    assert first.pid != second.pid
    assert {first.exit_kind, second.exit_kind} == {"clean"}


def test_a_request_under_way_is_finished_by_a_graceful_stop(tmp_path) -> None:
    with serving(tmp_path, *UVICORN, APP, ready="startup complete", WITH_FASTALLOC="1") as server:
        assert server.get("/stream").status == 200
        os.kill(server.process.pid, signal.SIGINT)
        assert server.process.wait(20) in (0, -signal.SIGINT, 130)
    [snapshot] = snapshots(server.folder)
    assert snapshot.exit_kind in ("clean", "signal")
    assert [str(r["name"]) for r in snapshot.records if r["kind"] == "span"] == ["GET /stream"]
