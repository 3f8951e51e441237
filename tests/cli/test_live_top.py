"""`fastalloc top` on a terminal, beside a process that runs."""

from __future__ import annotations

import codecs
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("fastalloc._core")

PROGRAM = """
import time, fastalloc
fastalloc.start()
kept = []
print(fastalloc.status().recording, flush=True)
while True:
    kept.append([bytes(10_000) for _ in range(200)])
    time.sleep(0.05)
"""


@pytest.fixture
def program(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that grows until it is killed, and has said that it is recorded."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "FASTALLOC_DIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    with process, process.stdout:
        assert process.stdout.readline().strip().endswith(".recording")
        yield process
        process.kill()


@pytest.fixture(autouse=True)
def may_be_interrupted() -> Iterator[None]:
    """A shell's background job, as this may be one, begins with the signal ignored, and so would what it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@contextmanager
def watching(pid: int, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """`fastalloc top` on a terminal of its own, and the other end of that terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "fastalloc", "top", str(pid), "--interval", "0.2"],
        env={**os.environ, "FASTALLOC_DIR": str(folder), "TERM": "xterm", "COLUMNS": "120"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    with process:
        try:
            yield process, ours
        finally:
            process.kill()  # one that waits for its terminal to be read would be waited for
            os.close(ours)


def read_until(terminal: int, tables: int, seconds: float = 20) -> str:
    """What the terminal shows, until it has shown so many tables or the other end has left."""
    text, decoder = "", codecs.getincrementaldecoder("utf-8")()  # a read may end within a character
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and text.count("live heap ") < tables:
        try:
            text += decoder.decode(os.read(terminal, 65536))
        except OSError:  # how a terminal says that nobody is there any more
            break
    return text


def test_it_renews_itself_until_interrupted(program: subprocess.Popen[str], tmp_path: Path) -> None:
    with watching(program.pid, tmp_path) as (top, terminal):
        text = read_until(terminal, tables=10)
        top.send_signal(signal.SIGINT)
        text += read_until(terminal, tables=1000)  # or it would wait for room to say its last word
        assert top.wait(20) == 0
    held = [float(value) for value in re.findall(r"live heap ([\d.]+) MiB", text)]
    assert len(held) > 2
    assert held[-1] > held[0]
    assert "<string>:7" in text


def test_it_ends_when_the_process_is_killed(program: subprocess.Popen[str], tmp_path: Path) -> None:
    with watching(program.pid, tmp_path) as (top, terminal):
        text = read_until(terminal, tables=4)
        program.kill()
        program.wait()
        text += read_until(terminal, tables=1000)
        assert top.wait(20) == 0
    assert f"process {program.pid}, killed" in text
