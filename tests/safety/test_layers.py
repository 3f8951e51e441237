"""Layers of a running process that fail ten times are switched off, seen from inside and from outside,
and tried again; the program goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import fastalloc
from fastalloc.cli import main
from tests.safety.service import Service, wait_until


def from_outside(service: Service, capsys: pytest.CaptureFixture[str]) -> Any:
    """What `fastalloc status PID --json` says of its safety mechanisms."""
    capsys.readouterr()
    words = ["status", str(service.pid), "--dir", str(service.directory), "--json"]
    assert main(words) == 0
    return json.loads(capsys.readouterr().out)["recordings"][-1]["safety"]


def test_a_job_in_the_watcher(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setup = """
from fastalloc import background, breaker
breaker.RETRY_SECONDS = 1.0
calls, works = 0, False
def job():
    global calls
    calls += 1
    if not works:
        raise LookupError("with a secret")
background.every(0.02, job, "job of a test")
"""
    with Service(tmp_path / "r", setup) as service:
        wait_until(lambda: service.breaker("job of a test")["state"] == "open", 10)
        assert service.ask("calls") in (10, 11)  # ten failures, perhaps a trial by now
        assert service.breaker("job of a test")["last_error"] == "LookupError"
        assert from_outside(service, capsys)["breakers_open"] == ["job of a test"]
        assert main(["status", str(service.pid), "--dir", str(service.directory)]) == 0
        assert "layers switched off:  job of a test" in capsys.readouterr().out
        assert service.is_on()  # all else goes on

        service.ask("globals().update(works=True)")
        wait_until(lambda: service.breaker("job of a test")["state"] == "closed", 10)
        assert from_outside(service, capsys)["breakers_open"] == []
        calls = service.ask("calls")
        wait_until(lambda: service.ask("calls") > calls + 2, 10)
        kinds = [
            (event["a"], event["span_name"])
            for event in fastalloc.read(service.recording).to_dict()["events"]
            if event["kind"] == "breaker"
        ]
        assert kinds[0] == (1, "job of a test") and kinds[-1] == (0, "job of a test")
        assert b"with a secret" not in service.recording.read_bytes()


def test_a_section_of_a_dump(tmp_path: Path) -> None:
    setup = """
from fastalloc import dumps
calls = 0
def section():
    global calls
    calls += 1
    raise ValueError
dumps.add_section("broken", section)
"""
    with Service(tmp_path / "r", setup) as service:
        paths = [service.ask("fastalloc.write_dump()") for _ in range(12)]
        assert service.ask("calls") == 10
        assert service.breaker("dump section broken")["state"] == "open"
        for path in paths:
            assert fastalloc.read(path).live_bytes > 0
        state = json.loads((Path(paths[-1]) / "state.json").read_text())
        assert "dump section broken" in json.dumps(
            state
        )  # what only the process knows, from outside


def test_what_follows_the_switches_of_contexts(tmp_path: Path) -> None:
    setup = """
import types
class Broken(types.ModuleType):
    calls = 0
    def __getattr__(self, name):
        Broken.calls += 1
        raise ZeroDivisionError
sys.modules["greenlet"] = Broken("greenlet")
"""
    with Service(tmp_path / "r", setup) as service:
        wait_until(lambda: service.breaker("context switches")["state"] == "open", 10)
        assert service.breaker("context switches")["last_error"] == "ZeroDivisionError"
        calls = service.ask("Broken.calls")
        done = service.ask("done")
        wait_until(lambda: service.ask("done") > done + 20, 10)
        assert service.ask("Broken.calls") == calls
        names = set(fastalloc.read(service.recording).records["name"])
        assert "work" in names  # spans are recorded all the same
