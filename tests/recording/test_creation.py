"""A recording is one from the moment at which it begins with the magic: who comes earlier waits."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastalloc import leftovers
from fastalloc.recording import layout
from fastalloc.recording.errors import RecordingError
from fastalloc.recording.reader import read
from fastalloc.recording.running import Running
from tests.recording.synthetic import SyntheticRecording

LOCK = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)

BEGINS = """
import os, sys, time
import fastalloc

for turn in range(150):
    fastalloc.start(dir=sys.argv[1], keep_count=0)
    if turn % 5 == 0:
        if os.fork() == 0:
            time.sleep(0.15)
            os._exit(0)
    fastalloc.stop()
"""


@pytest.fixture
def at_work(tmp_path: Path) -> Iterator[int]:
    """A descriptor of tmp_path / "new", as a recorder holds it that is creating it: locked, without a magic."""
    descriptor = os.open(tmp_path / "new", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, LOCK)
    os.ftruncate(descriptor, 1 << 20)
    os.utime(descriptor, (0, 0))  # its age does not tell
    yield descriptor
    os.close(descriptor)


def test_a_reader_waits_for_the_magic(tmp_path: Path, at_work: int) -> None:
    content = SyntheticRecording().to_bytes()

    def create() -> None:
        time.sleep(0.2)
        os.pwrite(at_work, content[8:], 8)
        os.pwrite(at_work, content[:8], 0)

    thread = threading.Thread(target=create)
    thread.start()
    assert read(tmp_path / "new").pid == 4242
    thread.join()


def test_a_creation_that_takes_long_is_named_and_nothing_to_delete(
    tmp_path: Path, at_work: int
) -> None:
    before = time.monotonic()
    with pytest.raises(RecordingError, match="is being created by a running process; try again"):
        read(tmp_path / "new")
    assert 0.9 < time.monotonic() - before < 10


def test_nobody_writes_a_word_into_what_is_no_recording_yet(tmp_path: Path, at_work: int) -> None:
    with pytest.raises(RecordingError, match="nothing was changed"):
        Running(tmp_path / "new")


def test_tidying_up_leaves_a_file_alone_that_is_being_created(tmp_path: Path) -> None:
    path = tmp_path / "fastalloc-1-1.recording"
    path.write_bytes(bytes(layout.PAGE_BYTES))
    assert [item.alive for item in leftovers.look(str(tmp_path))] == [False]
    with path.open("r+b") as file:
        fcntl.fcntl(file.fileno(), fcntl.F_OFD_SETLK, LOCK)
        assert [item.alive for item in leftovers.look(str(tmp_path))] == [True]


def test_every_recording_can_be_read_as_soon_as_its_name_is_there(tmp_path: Path) -> None:
    """Those of starts and of forked children, each read at once, while more are being created."""
    seen: set[Path] = set()
    with subprocess.Popen([sys.executable, "-c", BEGINS, tmp_path]) as process:
        while process.poll() is None:
            for path in set(tmp_path.glob("*.recording")) - seen:
                seen.add(path)
                read(path)
    assert process.returncode == 0
    assert len(seen) >= 150


HELD = """
import sys, time
import fastalloc

for _ in range(60):
    fastalloc.start(dir=sys.argv[1], keep_count=0)
    time.sleep(0.03)
    fastalloc.stop()
"""


def test_a_recording_that_is_seen_is_that_of_a_running_process(tmp_path: Path) -> None:
    """Looked at once, as soon as its name is there, by a reader and by who would write a word."""
    states, refused = [], []
    seen: set[Path] = set()
    with subprocess.Popen([sys.executable, "-c", HELD, tmp_path]) as process:
        while process.poll() is None:
            for path in set(tmp_path.glob("*.recording")) - seen:
                seen.add(path)
                if len(seen) % 2:
                    states.append(read(path).state)
                else:
                    try:
                        Running(path).__exit__()
                    except RecordingError as error:
                        if read(path).state != "stopped":  # by now: we came late
                            refused.append(str(error))
    assert process.returncode == 0 and len(seen) == 60
    assert "running" in states and set(states) <= {"running", "stopped"}
    assert refused == []
