"""A copy of a recording that is being written agrees with itself, or says that it may not."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastalloc.recording import tables
from fastalloc.recording.layout import HEADER, LIVE, PHASE, Region
from fastalloc.recording.reader import read
from tests.recording.synthetic import SyntheticRecording
from tests.recording.test_reader import recording_of

SAMPLES = 2000


def many_samples() -> SyntheticRecording:
    """A recording of this process with many samples of 1 byte, in phase 1."""
    recording = recording_of(os.getpid())
    for _ in range(SAMPLES):
        recording.live(size=1)
    return recording


class Mapped:
    """A recording's file, mapped for writing as the recorder has it."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self.memory = mmap.mmap(file.fileno(), 0)
        self.header: Any = np.frombuffer(self.memory, HEADER, 1)[0]
        self.live: Any = self._table(Region.LIVE, LIVE)
        self.phases: Any = self._table(Region.PHASES, PHASE)

    def _table(self, region: Region, dtype: np.dtype[np.void]) -> Any:
        entry = self.header["regions"][region]
        return np.frombuffer(self.memory, dtype, int(entry["used"]), int(entry["offset"]))

    def write_everywhere(self, value: int) -> None:
        """Set a value at the file's beginning, middle and end, as one write."""
        self.header["sequence"] += 1
        self.header["live_bytes"] = value
        self.live["weight"][1:] = value
        self.phases["entered"] = value
        self.header["sequence"] += 1


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return many_samples().write(tmp_path / "recording")


@pytest.fixture
def writer(path: Path) -> Iterator[Mapped]:
    """Somebody who writes now and then, until the test is over."""
    mapped = Mapped(path)
    mapped.write_everywhere(1)
    over = threading.Event()

    def write() -> None:
        value = 1
        while not over.wait(0.002):
            value += 1
            mapped.write_everywhere(value)

    thread = threading.Thread(target=write)
    thread.start()
    yield mapped
    over.set()
    thread.join()


def test_all_parts_of_a_consistent_copy_are_of_one_instant(path: Path, writer: Mapped) -> None:
    seen = set()
    for _ in range(200):
        snapshot = read(path)
        if not snapshot.consistent:
            continue
        value = snapshot.live_bytes
        assert (snapshot.live["weight"] == value).all()
        assert (snapshot.phases["entered"] == value).all()
        seen.add(value)
    assert len(seen) > 20, "the copies were made while somebody wrote"


def test_a_writer_that_comes_in_between_makes_the_copy_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapped = Mapped(path)
    real, calls = tables._read_entries, []

    def interrupted(*args: Any) -> Any:
        entries = real(*args)
        calls.append(1)
        if len(calls) < 3:
            mapped.write_everywhere(len(calls))
        return entries

    monkeypatch.setattr(tables, "_read_entries", interrupted)
    snapshot = read(path)
    assert len(calls) == 3
    assert snapshot.consistent
    assert snapshot.live_bytes == 2


def test_a_writer_that_never_ends_is_not_waited_for(path: Path) -> None:
    Mapped(path).header["sequence"] += 1
    snapshot = read(path)
    assert not snapshot.consistent
    assert not snapshot.repaired, "the process lives: it will write what is missing"
    assert len(snapshot.live) == SAMPLES


def test_a_dead_process_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sleep(_: float) -> None:
        pytest.fail("there is nothing to wait for")

    monkeypatch.setattr(time, "sleep", sleep)
    recording = SyntheticRecording(state="running", sequence=5)
    assert read(recording.write(tmp_path / "recording")).repaired


def test_a_file_that_shrinks_does_not_kill_the_reader(tmp_path: Path) -> None:
    many_samples().write(tmp_path / "recording")
    code = (
        "import os, sys\n"
        "from fastalloc.recording import reader, source\n"
        "path = sys.argv[1]\n"
        "real = source.File.fill\n"
        "def cut(self, view, offset):\n"
        "    if offset: os.truncate(path, 4096)\n"
        "    real(self, view, offset)\n"
        "source.File.fill = cut\n"
        "try: reader.read(path)\n"
        "except reader.RecordingError: print('refused')\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "recording"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert result.stdout == "refused\n"


def test_no_more_is_read_than_is_in_use(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    real = os.preadv

    def counted(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        count = real(descriptor, buffers, offset)
        sizes.append(count)
        return count

    spacious = SyntheticRecording(capacity=dict.fromkeys(Region, 50_000))
    spacious.live(size=1)
    spacious.write(path)
    monkeypatch.setattr(os, "preadv", counted)
    read(path)
    assert path.stat().st_size > 30 << 20
    assert sum(sizes) < 8192
