"""The verdict on real programs, alive and dead, as `fastalloc info` gives it."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import fastalloc
from fastalloc.analysis.resident import verdict
from tests.core.programs import PATIENCE, Programs

MIB = 1 << 20
MODERN = (
    tuple(map(int, platform.libc_ver()[1].split("."))) >= (2, 33)
    if platform.libc_ver()[1]
    else False
)
needs_mallinfo = pytest.mark.skipif(
    not MODERN, reason="this C library does not say what malloc holds"
)

PRELUDE = """
import ctypes, mmap, sys, time
import fastalloc
fastalloc.start()
library = ctypes.CDLL(None)
library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def blocks(count, size):
    made = [library.malloc(size) for _ in range(count)]
    for each in made:
        ctypes.memset(each, 1, size)
    return made
"""
READY = """
print("ready", flush=True)
time.sleep(60)
"""


@contextmanager
def running(programs: Programs, source: str) -> Iterator[Any]:
    """The program, once it says that it is ready."""
    process: Any = programs.start(PRELUDE + source + READY)
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def info(process: Any) -> dict[str, Any]:
    """`fastalloc info --json` of it."""
    command = [sys.executable, "-m", "fastalloc", "info", str(process.pid), "--json"]
    done = subprocess.run(
        [*command, "--dir", str(process.directory)],
        capture_output=True,
        text=True,
        timeout=60 * PATIENCE,
        check=True,
    )
    return dict(json.loads(done.stdout))


@needs_mallinfo
def test_every_other_block_freed_is_fragmentation(programs: Programs) -> None:
    """200 MB of which half is freed. 5 % off: headers of blocks, and what Python itself has of malloc."""
    with running(
        programs, "made = blocks(2000, 100_000)\nfor each in made[::2]: library.free(each)"
    ) as process:
        told = info(process)
    assert told["verdict"]["kind"] == "fragmentation"
    parts = told["resident"]
    assert parts["malloc_free_bytes"] == pytest.approx(100e6, rel=0.05)
    assert parts["malloc_live_bytes"] == pytest.approx(100e6, rel=0.05)
    assert parts["rest_bytes"] < 16 * MIB and parts["seconds_ago"] < 10
    assert 0 < parts["own_bytes"] < 4 * MIB


@needs_mallinfo
def test_what_a_peak_left_in_malloc_was_not_given_back(programs: Programs) -> None:
    """A late block holds the top of the heap: malloc keeps all below it."""
    source = "*made, last = blocks(2001, 100_000)\nfor each in made: library.free(each)"
    with running(programs, source) as process:
        told = info(process)
    assert told["verdict"]["kind"] == "peak not given back"
    assert "MALLOC_TRIM_THRESHOLD_" in told["verdict"]["advice"]
    assert told["resident"]["malloc_free_bytes"] == pytest.approx(200e6, rel=0.05)


def test_small_objects_that_survive_a_peak_pin_their_arenas(programs: Programs) -> None:
    """One in 3000 of 3 million objects of 48 bytes is kept: in nearly every arena (22,000 blocks)."""
    source = "made = [b'%d' % n for n in range(3_000_000)]; last = made[::3000]; del made"
    with running(programs, source) as process:
        told = info(process)
    assert told["verdict"]["kind"] == "peak not given back"
    assert "pymalloc" in told["verdict"]["text"]
    assert told["resident"]["arenas_free_bytes"] == pytest.approx(3e6 * 48, rel=0.1)


def test_pages_of_a_mapped_file_are_cache(programs: Programs, tmp_path: Path) -> None:
    path = tmp_path / "data"
    with path.open("wb") as file:
        file.truncate(128 * MIB)
    source = f"""
file = open({str(path)!r}, "rb")
data = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
sum(data[at] for at in range(0, len(data), 4096))
"""
    with running(programs, source) as process:
        told = info(process)
    if told["resident"]["shmem_bytes"] > 100 * MIB:  # the tests' folder is in tmpfs
        assert told["verdict"]["kind"] == "shared memory"
    else:
        assert told["verdict"]["kind"] == "file cache"
        # and the interpreter's own code: some MiB
        assert 128 * MIB <= told["resident"]["file_bytes"] < 160 * MIB


@pytest.mark.slow
def test_a_heap_that_keeps_growing_is_a_leak(programs: Programs) -> None:
    """Some 8 MB a second for eight seconds, which the timeline sees second by second."""
    source = """
kept, end = [], time.monotonic() + 8
while time.monotonic() < end:
    kept.append([bytes(500) for _ in range(750)])
    time.sleep(0.05)
"""
    with running(programs, source) as process:
        told = info(process)
    assert told["verdict"]["kind"] == "leak"
    # All of it is Python's, but for a few MiB of pools' heads and pages not filled.
    assert told["resident"]["python_bytes"] > 0.7 * told["live_bytes"]


def test_a_dump_keeps_the_split_when_the_process_is_gone(programs: Programs) -> None:
    source = "made = blocks(100, 500_000)\nprint(json.dumps({'path': fastalloc.write_dump()}))"
    snapshot = fastalloc.read(programs.run(PRELUDE + "import json\n" + source).answer["path"])
    assert snapshot.state == "running"
    told = snapshot.dump["resident"]
    assert told["anon_bytes"] > 50_000_000 and "time_ns" not in told
    assert snapshot.resident.seconds_ago is not None
    if MODERN:
        assert verdict(snapshot).kind == "native"
        assert snapshot.resident.malloc_live_bytes == pytest.approx(50e6, rel=0.1)


def test_a_killed_process_that_nobody_asked_tells_its_live_heap_alone(programs: Programs) -> None:
    with running(programs, "kept = [bytes(1000) for _ in range(60_000)]") as process:
        time.sleep(1.5)  # its usage is noted once a second
    (path,) = process.directory.glob("*.recording")
    snapshot = fastalloc.read(path)
    parts = snapshot.resident
    assert snapshot.state == "killed" and parts.seconds_ago is None
    assert parts.malloc_free_bytes is None and parts.file_bytes is None
    assert parts.python_bytes + parts.rest_bytes == parts.rss_bytes


def test_the_look_leaves_the_hooks_in_place(programs: Programs) -> None:
    done = programs.run(
        """
        import fastalloc
        from fastalloc import _core
        from tests.core.inside import answer
        fastalloc.start(interval_bytes=1)
        told = _core.look_at_resident()
        before = fastalloc.status().live_bytes
        kept = [[] for _ in range(10_000)]
        answer(arenas=told["arena_bytes"], live=told["arena_live_bytes"],
               grown=fastalloc.status().live_bytes - before, displaced=_core.state()["hooks_displaced"])
        """
    )
    assert not done.answer["displaced"]
    assert done.answer["grown"] > 10_000 * 56
    assert 0 < done.answer["live"] <= done.answer["arenas"]
