"""`fastalloc disable` and `enable`, the file `disabled`, FASTALLOC_DISABLED: on running processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fastalloc
from fastalloc.cli import main
from fastalloc.recording.errors import RecordingError
from tests.safety.service import Service, wait_until


def command(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, Any]:
    """(exit status, what it said as JSON) of a command."""
    status = main([*map(str, words), "--json"])
    out = capsys.readouterr().out
    return status, json.loads(out) if out else None


def test_disable_stops_a_running_process_and_enable_brings_it_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Service(tmp_path / "recordings") as service:
        assert service.is_on()
        folder = ("--dir", service.directory)
        status, said = command(capsys, "disable", service.pid, *folder)
        assert status == 0
        assert said["processes"] == [
            {
                "path": str(service.recording),
                "pid": service.pid,
                "done": True,
                "mode": "disabled",
                "off": "control",
            }
        ]
        assert service.is_off()
        assert "fastalloc disable" in service.status()["reason"]

        status, said = command(capsys, "enable", service.pid, *folder)
        assert (status, said["processes"][0]["mode"]) == (0, "light")
        assert service.is_on()
        assert service.status()["reason"] == ""
        kept_before = 1000 * 10_000
        assert fastalloc.read(service.recording).live_bytes < kept_before  # it began empty

        status, said = command(capsys, "enable", service.pid, "--mode", "aggressive", *folder)
        assert (status, said["processes"][0]["mode"]) == (0, "aggressive")
        assert service.status()["interval_bytes"] == 64 * 1024
        events = list(fastalloc.read(service.recording).events["kind"])
        assert events.count("control") >= 2


@pytest.mark.slow
def test_no_sample_is_taken_after_the_word_was_written(tmp_path: Path) -> None:
    """Even while the watcher does not get around to anything."""
    setup = "from fastalloc import background; background._handlers['control'].clear(); background._jobs.clear()"
    with Service(
        tmp_path / "recordings", setup, interval_bytes=1000, overhead_percent=0
    ) as service:
        wait_until(lambda: service.status()["samples"] > 1000, 10)
        main(["disable", str(service.pid), "--dir", str(service.directory)])
        samples = service.status()["samples"]
        assert service.ask("counted()") >= 1000  # the hooks are there still
        assert service.status()["samples"] == samples
        assert not service.status()["active"]


@pytest.mark.slow
def test_all_processes_of_a_folder_are_switched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "recordings"
    with Service(folder) as one, Service(folder) as other:
        status, said = command(capsys, "disable", "--all", "--dir", folder)
        assert status == 0
        assert {row["pid"] for row in said["processes"]} == {one.pid, other.pid}
        assert one.is_off() and other.is_off()
        assert command(capsys, "enable", "--all", "--dir", folder)[0] == 0
        assert one.is_on() and other.is_on()


@pytest.mark.slow
def test_the_program_may_enable_itself_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Service(tmp_path / "recordings") as service:
        command(capsys, "disable", service.pid, "--dir", service.directory)
        service.ask("fastalloc.enable()")
        assert service.is_on()
        service.ask("fastalloc.disable()")
        assert service.is_off()
        assert service.status()["reason"] == "disabled"
        assert command(capsys, "enable", service.pid, "--dir", service.directory)[0] == 0
        assert service.is_on()


def test_a_file_in_the_folder_stops_all_and_lets_none_begin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "recordings"
    with Service(folder) as service, Service(folder) as other:
        (folder / "disabled").touch()
        assert wait_until(service.is_off, 10) < 5
        wait_until(other.is_off, 5)
        assert str(folder / "disabled") in service.status()["reason"]
        service.ask("fastalloc.enable()")  # has no say against the file
        assert service.is_off()
        status, said = command(capsys, "enable", service.pid, "--dir", folder)
        assert status == 1 and said["processes"][0]["off"] == "file"
        with Service(folder) as late:
            assert late.status()["state"] == "empty"
            assert str(folder / "disabled") in late.status()["reason"]
            assert list(folder.glob(f"*-{late.pid}-*")) == []
        (folder / "disabled").unlink()
        wait_until(service.is_on, 5)
        wait_until(other.is_on, 5)


@pytest.mark.parametrize(
    ("value", "is_off"), [("1", True), ("yes", True), ("0", False), ("", False)]
)
def test_the_environment_wins_over_everything(tmp_path: Path, value: str, is_off: bool) -> None:
    code = """
import json, sys
import fastalloc
fastalloc.start("aggressive", interval_bytes=1)
fastalloc.enable()
with fastalloc.span("a"), fastalloc.phase("b"): fastalloc.checkpoint("c")
loaded = getattr(sys.modules.get("fastalloc._core"), "state", None) is not None
print(json.dumps([fastalloc.status().to_dict(), loaded]))
"""
    environment = os.environ | {
        "FASTALLOC_DIR": str(tmp_path / "recordings"),
        "FASTALLOC_DISABLED": value,
        "FASTALLOC_MODE": "light",
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environment,
        capture_output=True,
        check=True,
    )
    status, core_loaded = json.loads(done.stdout)
    assert status["active"] is not is_off
    assert core_loaded is not is_off
    if is_off:
        assert status["reason"] == "FASTALLOC_DISABLED is set"
        assert not (tmp_path / "recordings").exists()


@pytest.mark.slow
def test_a_child_forked_while_switched_off_is_off_until_it_is_switched_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has a recording of its own, so that it can be found."""
    setup = """
import gc
def fork():
    pid = os.fork()
    if pid:
        return pid
    while True:  # a worker
        kept = [[n] for n in range(10_000)]
        gc.collect()
        with fastalloc.span("child"): pass
        time.sleep(0.01)
"""
    folder = tmp_path / "recordings"

    def mode_of(pid: int) -> str:
        for path in folder.glob(f"fastalloc-{pid}-*"):
            try:
                return str(fastalloc.read(path).mode)
            except RecordingError:  # it is being made
                return ""
        return ""

    with Service(folder, setup) as service:
        command(capsys, "disable", service.pid, "--dir", folder)
        children = [service.ask("fork()") for _ in range(2)]
        try:
            for child in children:
                wait_until(lambda child=child: mode_of(child) == "disabled", 10)
            assert command(capsys, "enable", children[0], "--dir", folder)[0] == 0
            assert mode_of(children[0]) == "light"
            assert mode_of(children[1]) == "disabled" and service.is_off()
            wait_until(lambda: "child" in set(spans_of(folder, children[0])), 10)
            assert command(capsys, "enable", "--all", "--dir", folder)[0] == 0
            assert service.is_on() and mode_of(children[1]) == "light"
        finally:
            for child in children:
                os.kill(child, signal.SIGKILL)


def spans_of(folder: Path, pid: int) -> list[str]:
    (path,) = folder.glob(f"fastalloc-{pid}-*")
    records = fastalloc.read(path).records
    return [str(name) for name in records["name"]]


def test_bad_words_are_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["disable"], ["disable", "1", "--all"], ["enable", "1", "--mode", "none"]):
        with pytest.raises(SystemExit) as raised:
            main(words)
        assert raised.value.code == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    for words in (["disable", "--all"], ["enable", "4194304"]):
        assert main([*words, "--dir", str(tmp_path)]) == 2
        assert str(tmp_path) in capsys.readouterr().err
