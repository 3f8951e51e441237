"""Dumps that somebody asks for: by a signal, and by PID from another process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fastalloc
from tests.core.programs import Programs
from tests.dumps.states import PRELUDE, left_overs, load

WAITS = (
    PRELUDE
    + """
{before}
fastalloc.start({options})
with fastalloc.span("GET /held/"):
    kept = bytes(3_000_000)
    print("ready", flush=True)
    {work}
"""
)
SLEEPS = "time.sleep(60)"


def start(programs: Programs, options: str = "", work: str = SLEEPS, before: str = "pass") -> Any:
    """A program that holds memory in a span; it is at `work` when this returns."""
    source = WAITS
    for name, text in (("options", options), ("work", work), ("before", before)):
        source = source.replace(f"{{{name}}}", text)
    process = programs.start(source)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()[1]
    return process


@pytest.fixture
def ends() -> Iterator[list[Any]]:
    """Processes that are killed at the end of the test."""
    processes: list[Any] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def wait_for_dumps(directory: Path, count: int, seconds: float = 20.0) -> list[Path]:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = sorted(directory.glob("dump-*"))
        if len(found) >= count:
            return found
        time.sleep(0.02)
    raise AssertionError(f"only {len(list(directory.glob('dump-*')))} dumps")


def ask(process: Any, *options: str, status: int = 0) -> Any:
    """`fastalloc dump PID`."""
    done = subprocess.run(
        [sys.executable, "-m", "fastalloc", "dump", str(process.pid), *options],
        env={**os.environ, "FASTALLOC_DIR": str(process.directory)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done


# --- by signal --------------------------------------------------------------------------------


def test_a_signal_has_a_dump_written(programs: Programs, ends: list[Any]) -> None:
    process = start(programs, 'dump_signal="SIGUSR2"')
    ends.append(process)
    process.send_signal(signal.SIGUSR2)
    (path,) = wait_for_dumps(process.directory, 1)
    state = load(path)
    assert state["reason"] == "signal SIGUSR2"
    assert "GET /held/" in [span["name"] for span in state["spans"]["items"]]
    (main,) = [row for row in state["threads"]["items"] if row["name"] == "MainThread"]
    assert main["stack"][0]["function"] == "<module>" and "writes_this_dump" not in main
    process.send_signal(signal.SIGUSR2)
    wait_for_dumps(process.directory, 2)
    assert process.poll() is None


def test_a_handler_that_is_there_is_called_as_well(programs: Programs, ends: list[Any]) -> None:
    before = 'signal.signal(signal.SIGUSR1, lambda *_: print("theirs", flush=True))'
    process = start(programs, 'dump_signal="SIGUSR1"', before="import signal; " + before)
    ends.append(process)
    process.send_signal(signal.SIGUSR1)
    assert process.stdout.readline() == "theirs\n"
    (path,) = wait_for_dumps(process.directory, 1)
    assert load(path)["reason"] == "signal SIGUSR1"


@pytest.mark.slow
def test_a_handler_that_comes_later_is_called_as_well(programs: Programs, ends: list[Any]) -> None:
    work = """
    import signal, faulthandler
    signal.signal(signal.SIGUSR1, lambda *_: print("theirs", flush=True))
    faulthandler.register(signal.SIGUSR1, chain=True)
    time.sleep(2.5)  # until the watcher has looked
    print("later", flush=True)
    while True: time.sleep(1)
"""
    process = start(programs, 'dump_signal="SIGUSR1"', work=work.strip())
    ends.append(process)
    assert process.stdout.readline() == "later\n"
    process.send_signal(signal.SIGUSR1)
    assert process.stdout.readline() == "theirs\n"
    wait_for_dumps(process.directory, 1)
    assert process.poll() is None


def test_a_signal_reaches_a_program_that_is_started_by_another_thread(
    programs: Programs,
) -> None:
    done = programs.run(
        PRELUDE
        + """
import signal
thread = threading.Thread(target=fastalloc.start, kwargs={"dump_signal": "SIGRTMIN+2"})
thread.start(); thread.join()
os.kill(os.getpid(), signal.SIGRTMIN + 2)
until = time.monotonic() + 20
while not fastalloc.status().last_dump and time.monotonic() < until: time.sleep(0.01)
answer(path=fastalloc.status().last_dump, error=fastalloc.status().dump_error)
"""
    )
    assert done.answer["error"] == ""
    assert load(done.answer["path"])["reason"] == "signal SIGRTMIN+2"


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGNOTHING", "USR2", "SIGRTMIN+99", 12])
def test_what_is_no_signal_for_it_is_an_error(name: object) -> None:
    with pytest.raises(fastalloc.ConfigError, match="dump_signal"):
        fastalloc.configure({"dump_signal": name})


# --- by PID -----------------------------------------------------------------------------------


def test_a_dump_is_written_by_the_process_itself(programs: Programs, ends: list[Any]) -> None:
    process = start(programs)
    ends.append(process)
    done = ask(process, "--json")
    told = json.loads(done.stdout)
    assert told["pid"] == process.pid and not told["from_outside"]
    state = load(told["path"])
    assert state["reason"] == "request" and state["threads"]["items"]
    second = ask(process).stdout.strip()
    assert second != told["path"] and Path(second).parent == process.directory
    assert fastalloc.read(second).dump["process"]["pid"] == process.pid
    assert left_overs(process.directory) == []


def test_a_process_whose_recorder_is_switched_off_still_answers(
    programs: Programs, ends: list[Any]
) -> None:
    work = 'fastalloc.disable(); print("off", flush=True); ' + SLEEPS
    process = start(programs, work=work)
    ends.append(process)
    process.stdout.readline()
    told = json.loads(ask(process, "--json").stdout)
    assert not told["from_outside"]
    assert load(told["path"])["status"]["active"] is False


def test_a_stuck_process_is_copied_from_outside(programs: Programs, ends: list[Any]) -> None:
    process = start(programs)
    ends.append(process)
    process.send_signal(signal.SIGSTOP)
    done = ask(process, "--timeout", "0.5")
    assert "did not answer within 0.5 s" in done.stderr and done.stderr.count("\n") == 1
    path = Path(done.stdout.strip())
    state = load(path)
    assert state["from_outside"] and "did not answer" in state["threads"]["skipped"]
    assert state["state"] == "running" and state["memory"]["live_bytes"] > 2_900_000
    assert "GET /held/" in [span["name"] for span in state["spans"]["items"]]
    snapshot = fastalloc.read(path)
    assert snapshot.consistent and snapshot.live_bytes > 2_900_000
    assert "error" not in snapshot.dump
    process.send_signal(signal.SIGCONT)
    wait_for_dumps(process.directory, 2)  # it answers when it can


def test_a_dead_process_is_copied_from_outside(programs: Programs) -> None:
    process = start(programs)
    process.kill()
    process.communicate()
    done = ask(process)
    assert "has ended" in done.stderr
    state = load(done.stdout.strip())
    assert state["state"] == "killed"
    assert fastalloc.read(done.stdout.strip()).state == "killed"


def test_a_process_that_is_not_recorded_is_an_error_of_one_line(programs: Programs) -> None:
    process = start(programs)
    process.kill()
    process.communicate()
    process.pid = 2**22 - 1
    done = ask(process, status=2)
    assert "no recording of process" in done.stderr and done.stderr.count("\n") == 1


def test_info_shows_the_main_things_of_a_dump(programs: Programs, ends: list[Any]) -> None:
    process = start(programs)
    ends.append(process)
    path = ask(process).stdout.strip()
    command = [sys.executable, "-m", "fastalloc", "info", path]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "dump: request, " in text and "GET /held/" in text
    assert "MainThread" in text and "most frequent objects" in text
    told = json.loads(subprocess.run([*command, "--json"], capture_output=True, check=True).stdout)
    assert told["dump"]["reason"] == "request" and told["pid"] == process.pid


# --- a service --------------------------------------------------------------------------------

SERVICE = """
import fastalloc
def application(environ, start_response):
    with fastalloc.span("GET /"):  # as our middleware does
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"hello"]
"""


@pytest.mark.slow
def test_gunicorns_workers_write_dumps_by_signal_and_by_pid(
    programs: Programs, tmp_path: Path
) -> None:
    pytest.importorskip("gunicorn")
    (tmp_path / "service.py").write_text(SERVICE)
    directory = tmp_path / "recordings"
    environment = programs.environment(
        directory, {"FASTALLOC_MODE": "light", "FASTALLOC_DUMP_SIGNAL": "SIGUSR1"}
    )
    socket_path = tmp_path / "socket"
    log = tmp_path / "log"
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "fastalloc", "run", "--quiet", "-m", "gunicorn"),
            *("service:application", "--preload", "--workers", "2"),
            *("--bind", f"unix:{socket_path}", "--log-file", str(log)),
        ],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        workers = wait_for_workers(server, directory, socket_path)
        for worker in workers:
            process: Any = type("Worker", (), {"pid": worker, "directory": directory})
            told = json.loads(ask(process, "--json").stdout)
            assert not told["from_outside"], told
            assert load(told["path"])["process"]["pid"] == worker
        time.sleep(2.5)  # gunicorn has set its own handlers; the watcher looks once a second
        log.rename(tmp_path / "old")
        for number, worker in enumerate(workers, 3):
            os.kill(worker, signal.SIGUSR1)
            wait_for_dumps(directory, number)
        reasons = [load(path)["reason"] for path in directory.glob("dump-*")]
        assert sorted(reasons) == ["request"] * 2 + ["signal SIGUSR1"] * 2
        assert log.exists(), "gunicorn's own handler has opened its log anew"
        assert server.poll() is None
    finally:
        server.terminate()
        server.wait(20)


def wait_for_workers(
    server: subprocess.Popen[bytes], directory: Path, socket_path: Path
) -> list[int]:
    """The two workers, once they have recordings: requests make them."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        pids = {int(path.name.split("-")[1]) for path in directory.glob("*.recording")}
        if len(pids - {server.pid}) == 2:
            return sorted(pids - {server.pid})
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(socket_path))
                client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                client.recv(4096)
            except OSError:
                time.sleep(0.05)
    raise AssertionError("the workers have no recordings")
