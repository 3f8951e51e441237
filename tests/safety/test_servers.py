"""Switching a real prefork server off and on while it answers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gunicorn")

import fastalloc
from fastalloc.cli import main
from tests.safety.service import PACKAGE_PARENT, wait_until

APP = """
import json, os
import fastalloc

fastalloc.start()

def application(environ, start_response):
    with fastalloc.span("GET /"):
        blocks = [bytes(5_000) for _ in range(400)]
    start_response("200 OK", [("Content-Type", "application/json"), ("Connection", "close")])
    status = fastalloc.status()
    return [json.dumps([os.getpid(), status.active, status.reason]).encode()]
"""


class Gunicorn:
    """A master and two workers that were forked from the loaded application."""

    def __init__(self, folder: Path) -> None:
        (folder / "app.py").write_text(APP)
        self.recordings, self.socket = folder / "recordings", folder / "socket"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("FASTALLOC_", "PYTEST_"))}
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", "--preload", "--workers", "2", "app"),
                *("--bind", "127.0.0.1:0", "--no-control-socket", "--log-level", "info"),
            ],
            cwd=folder,
            env={**kept, "PYTHONPATH": str(PACKAGE_PARENT), "FASTALLOC_DIR": str(self.recordings)},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if "Listening at: http://" in line:
                self.url = line.partition("Listening at: ")[2].split()[0]
                break
        else:
            raise AssertionError(f"gunicorn ended with {self.process.wait()}")

    def stop(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=20)

    def get(self) -> Any:
        """(worker, whether it records, why not) of one request."""
        with urllib.request.urlopen(self.url, timeout=20) as answer:
            return json.load(answer)

    def workers(self) -> dict[int, bool]:
        """The workers that there are, and which of them record, by what each answers."""
        answers: dict[int, bool] = {}
        until = time.monotonic() + 20
        # On a busy machine one worker may answer a hundred requests before the other's first.
        while not (alive := self.alive()) or not alive <= set(answers):
            assert time.monotonic() < until, f"of {alive} only {set(answers)} answer"
            pid, active, _ = self.get()
            answers[pid] = active
        return {pid: answers[pid] for pid in alive}

    def alive(self) -> set[int]:
        """The master's children."""
        master = self.process.pid
        return {int(p) for p in Path(f"/proc/{master}/task/{master}/children").read_text().split()}


@pytest.fixture
def gunicorn(tmp_path: Path) -> Iterator[Gunicorn]:
    server = Gunicorn(tmp_path)
    try:
        yield server
    finally:
        server.stop()


@pytest.mark.slow
def test_all_workers_stop_at_one_command_and_go_on_at_another(
    gunicorn: Gunicorn, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(gunicorn.recordings)
    wait_until(lambda: list(gunicorn.workers().values()) == [True, True], 30)
    workers = gunicorn.alive()

    assert main(["disable", "--all", "--dir", folder, "--json"]) == 0
    said = {row["pid"]: row["mode"] for row in json.loads(capsys.readouterr().out)["processes"]}
    assert said == dict.fromkeys({*workers, gunicorn.process.pid}, "disabled")
    assert gunicorn.workers() == dict.fromkeys(workers, False)
    assert "fastalloc disable" in gunicorn.get()[2]
    for pid in workers:
        (path,) = gunicorn.recordings.glob(f"fastalloc-{pid}-*")
        records = len(fastalloc.read(path).records)
        gunicorn.workers()
        assert len(fastalloc.read(path).records) == records

    # A worker that the master forks meanwhile is off as well, and comes back with the others.
    lost = workers.pop()
    os.kill(lost, signal.SIGKILL)
    wait_until(lambda: len(gunicorn.alive() - {lost}) == 2, 30)
    workers = set(gunicorn.workers())
    assert lost not in workers
    assert gunicorn.workers() == dict.fromkeys(workers, False)
    wait_until(lambda: all(list(gunicorn.recordings.glob(f"*-{pid}-*")) for pid in workers), 30)
    assert main(["enable", "--all", "--dir", folder]) == 0
    wait_until(lambda: gunicorn.workers() == dict.fromkeys(workers, True), 30)


@pytest.mark.slow
def test_a_file_stops_master_and_workers(gunicorn: Gunicorn) -> None:
    wait_until(lambda: list(gunicorn.workers().values()) == [True, True], 30)
    (gunicorn.recordings / "disabled").touch()
    begun = time.monotonic()
    wait_until(lambda: not any(gunicorn.workers().values()), 30)
    assert time.monotonic() - begun < 10
    gunicorn.process.send_signal(signal.SIGTTIN)  # one worker more
    wait_until(lambda: len(gunicorn.alive()) == 3, 30)
    # It records for a second at most if the master had not looked yet when it forked.
    wait_until(lambda: not any(gunicorn.workers().values()), 30)
    (gunicorn.recordings / "disabled").unlink()
    wait_until(lambda: list(gunicorn.workers().values()) == [True] * 3, 30)
