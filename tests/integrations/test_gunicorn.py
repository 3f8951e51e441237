"""gunicorn's hooks in a real master with real workers."""

from __future__ import annotations

import os
import re
import signal
import time
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

import pytest

from tests.integrations.servers import APPS, GUNICORN, serving, snapshots

pytest.importorskip("gunicorn")
pytestmark = pytest.mark.slow

STAR = "from fastalloc.integrations.gunicorn import *\n"
BESIDE = """
import fastalloc.integrations.gunicorn
def post_worker_init(worker): worker.log.info("theirs: worker")
def child_exit(server, worker): server.log.info("theirs: child")
fastalloc.integrations.gunicorn.add_to(globals())
"""
APP = f"{APPS}.flask_app:raw"


def wait_for(condition, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def start(folder: Path, config: str, *options: str):
    path = folder / "gunicorn.conf.py"
    path.write_text(config)
    command = (*GUNICORN, "--config", str(path), "--workers", "2", *options, APP)
    return serving(folder, *command, ready="Booting", WITH_FASTALLOC="1")


@pytest.mark.parametrize("config", [STAR, BESIDE])
def test_the_master_says_where_a_killed_workers_recording_is(config, tmp_path) -> None:
    with start(tmp_path, config) as server:
        assert server.get("/fine").status == 200
        wait_for(lambda: len(server.children()) == 2)
        time.sleep(0.5)
        victim = server.children()[0]
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: "was killed or crashed" in server.log.read_text())
        wait_for(lambda: len(server.children()) == 2)
        server.process.send_signal(signal.SIGHUP)  # reload: workers end in order
        wait_for(lambda: server.log.read_text().count("Booting worker") == 5)
        wait_for(lambda: server.get("/fine").status == 200)
    log = server.log.read_text()
    assert re.findall(r"worker (\d+) was killed or crashed", log) == [str(victim)]
    assert ("theirs: worker" in log) is (config is BESIDE)
    assert ("theirs: child" in log) is (config is BESIDE)
    assert "Traceback" not in log
    by_pid = {snapshot.pid: snapshot for snapshot in snapshots(server.folder)}
    assert by_pid[victim].exit_kind == "unknown" and by_pid[victim].state == "killed"
    assert {s.exit_kind for pid, s in by_pid.items() if pid != victim} == {"clean"}


def test_start_up_is_over_when_a_worker_is_ready(tmp_path) -> None:
    with start(tmp_path, STAR) as server:
        wait_for(lambda: len(server.children()) == 2)
        time.sleep(0.5)
    children = [s for s in snapshots(server.folder) if "fork" in s.events["kind"]]
    assert children  # no request was made
    for snapshot in children:
        assert str(snapshot.phases["name"][snapshot.header["process_phase"]]) == "serving"


def test_a_worker_that_takes_too_long_leaves_a_dump(tmp_path) -> None:
    slow = "def application(environ, start_response):\n    import time\n    time.sleep(30)\n"
    (tmp_path / "slow_app.py").write_text(slow)
    path = tmp_path / "gunicorn.conf.py"
    path.write_text(STAR)
    command = (*GUNICORN, "--config", str(path), "--timeout", "1", "slow_app:application")
    with serving(tmp_path, *command, ready="Booting") as server:
        with suppress(OSError, HTTPException):  # 500 or nothing, as gunicorn pleases
            server.get("/")
        wait_for(lambda: list(server.folder.glob("dump-*/state.json")))
    [state] = server.folder.glob("dump-*/state.json")
    assert "gunicorn worker timeout" in state.read_text()
