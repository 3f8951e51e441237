"""An allocation that fails is in the recording, with its size and stack, before MemoryError is raised."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.core.programs import Programs, needs_memory_limit

pytestmark = needs_memory_limit

# What is asked for, the size that the event names (more than it: headers), and the domain.
WAYS = {
    "malloc": ("bytearray(33554432)[:] or [None] * 0 or b'x' * 33554432", 33_554_432),
    "calloc": ("bytearray(134217728)", 134_217_728),
    "realloc": ("grow()", 0),
    "arena": ("[object() for _ in range(20_000_000)]", 0),
}
PRELUDE = """
import resource
import fastalloc
from tests.core.inside import *
def grow():
    kept = bytearray(b"x")
    while True: kept *= 2
def limit(spare):
    pages = int(open("/proc/self/statm").read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + spare, -1))
"""


@pytest.mark.parametrize("mode", ["light", "standby"])
@pytest.mark.parametrize("way", WAYS)
def test_each_way_to_fail_leaves_its_size_and_line(programs: Programs, way: str, mode: str) -> None:
    program, size = WAYS[way]
    done = programs.run(
        PRELUDE
        + f"""
fastalloc.start({mode!r}, guard_percent=0)
def guilty():
    return {program}
limit(24 << 20)
try:
    guilty()
    failed = False
except MemoryError:
    failed = True
resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
fastalloc.stop()
answer(failed=failed)
"""
    )
    assert done.answer["failed"]
    snapshot = done.snapshot()
    events = snapshot.events
    failed = events[events["kind"] == "failed_allocation"]
    assert len(failed) >= 1
    if size:
        assert size in {int(a) // size * size for a in failed["a"]}
    functions = {
        frame.function
        for event in failed
        if event["node"]
        for frame in snapshot.stack_of_node(int(event["node"]))
    }
    assert "guilty" in functions
    text = subprocess.run(
        [sys.executable, "-m", "fastalloc", "info", str(done.recordings[0])],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    words = " ".join(text.split())
    assert "tried to allocate" in words and ("guilty" in words or "grow" in words)


def test_the_line_that_failed_first_is_named_not_what_fails_at_the_exit(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
fastalloc.start(guard_percent=0)
limit(100 << 20)
def guilty():
    kept = []
    while True: kept.append(b"y" * 5000)
guilty()
""",
        returncode=1,
    )
    command = [sys.executable, "-m", "fastalloc", "post-mortem", str(done.recordings[0].parent)]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    assert "ended by a failed allocation (MemoryError), certain" in told
    assert "in guilty, " in told
    snapshot = done.snapshot()
    assert (snapshot.events["kind"] == "failed_allocation").sum() < 10
