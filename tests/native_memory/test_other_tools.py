"""Tools that patch the same slots, before us, after us, or only for a while: nothing false is told afterwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.core.programs import Finished
from tests.native_memory.conftest import HERE, NativePrograms

PRELUDE = """
import ctypes, os, sys, time
import fastalloc
from tests.core.inside import *
from tests.native_memory.inside import *
calls = open_calls()
calls.call_free(calls.call_malloc(1))
tool = ctypes.PyDLL(os.environ["TEST_TOOL"])
tool.come, tool.leave, tool.come_and_go  # looked up
def native(): return [sample for sample in live().values() if sample.domain >= MALLOC]
def pay_a_visit(blocks):
    put = ctypes.cast(calls.call_free, ctypes.c_void_p)
    return tool.come_and_go(put, (ctypes.c_void_p * len(blocks))(*blocks), ctypes.c_size_t(len(blocks)))
def events(snapshot): return [int(event["a"]) for event in snapshot.events if event["kind"] == "native"]
"""
OFF, ON, GAP = 0, 1, 2
Run = Callable[[str], Finished]


@pytest.fixture(scope="session")
def tool(compile_library: Callable[..., Path]) -> Path:
    """The compiled tool.c."""
    return compile_library(HERE / "tool.c", "tool", "-Wl,-z,now")


@pytest.fixture
def run(programs: NativePrograms, tool: Path) -> Run:
    """Runs programs that the tool visits."""
    return lambda source: programs.run(PRELUDE + source, env={"TEST_TOOL": str(tool)})


def test_what_was_freed_while_a_tool_was_here_is_not_told_as_live(run: Run) -> None:
    """It leaves the slots as if nobody had ever hooked them."""
    done = run(
        """
fastalloc.start(native=True, interval_bytes=1, scale=8)
blocks = [calls.call_malloc(7777) for i in range(100)]
before = sum(sample.size == 7777 for sample in native())
taken = pay_a_visit(blocks)
snapshot = fastalloc.snapshot()
phantoms = sum(snapshot.live["size"] == 7777)
status = fastalloc.status()
again = sample_at(calls.call_malloc(7778))
fastalloc.status()
answer(before=before, taken=taken, phantoms=int(phantoms), displaced=snapshot.losses["displaced"], native=status.native,
       reason=status.native_reason, again=again, events=events(snapshot), read=[snapshot.native, snapshot.native_reason],
       later=fastalloc.snapshot().losses["displaced"])
"""
    )
    answer = done.answer
    assert answer["before"] == 100 and answer["taken"] > 10
    assert answer["phantoms"] == 0
    assert answer["displaced"] == answer["later"] == 1
    assert answer["native"] and "another tool had taken hooks" in answer["reason"]
    assert answer["read"] == [True, answer["reason"]]
    assert answer["again"] == [7778, 7778, 4]
    assert answer["events"] == [ON, GAP]


def test_a_visit_is_noticed_at_the_next_sample(run: Run) -> None:
    """Nobody asks for anything here; by the clock alone it would take ten seconds."""
    done = run(
        """
fastalloc.start(native=True, interval_bytes=1000, scale=8)
path = fastalloc.status().recording
fastalloc.read(path)  # all that reading loads is loaded
fastalloc.status()
before = fastalloc.read(path).losses["displaced"]
pay_a_visit([calls.call_malloc(100)])
until = time.monotonic() + 8
while not (after := fastalloc.read(path).losses["displaced"]) and time.monotonic() < until: time.sleep(0.01)
answer(before=before, after=after)
"""
    )
    assert done.answer == {"before": 0, "after": 1}


def test_a_tool_that_stays_ends_the_recording_of_native_memory(run: Run) -> None:
    done = run(
        """
before = slots()
fastalloc.start(native=True, interval_bytes=1, scale=8)
blocks = [calls.call_malloc(100) for i in range(10)]
tool.come()
status = fastalloc.status()
snapshot = fastalloc.snapshot()
left = len(native())
fastalloc.stop()
tool.leave()
after = slots()
for block in blocks: calls.call_free(block)
functions = {(function, value) for _, function, value in before.values()}
answer(native=status.native, reason=status.native_reason, left=left, events=events(snapshot), read=snapshot.native_reason,
       displaced=snapshot.losses["displaced"], strange=[e for e in after.values() if e[1:] not in functions and e[0] != "libtool.so"])
"""
    )
    answer = done.answer
    assert not answer["native"] and "another tool has patched" in answer["reason"]
    assert answer["reason"] == answer["read"]
    assert answer["left"] == 0 and answer["displaced"] == 1
    assert answer["events"] == [ON, OFF]
    assert [entry for entry in answer["strange"] if "libtool" not in entry[0]] == []


def test_a_tool_that_was_here_first_keeps_its_slots(run: Run) -> None:
    done = run(
        """
before = slots()
tool.come()
theirs = slots()
fastalloc.start(native=True, interval_bytes=1)
status, during = fastalloc.status(), slots()
snapshot = fastalloc.snapshot()
tool.leave()
fastalloc.stop()
answer(native=status.native, reason=status.native_reason, untouched=all(theirs[slot] == during.get(slot) for slot in theirs),
       displaced=snapshot.losses["displaced"], events=events(snapshot),
       back=all(slots()[slot][2] == before[slot][2] for slot in before if before[slot][1] == "mmap"))
"""
    )
    answer = done.answer
    assert not answer["native"] and "libtool.so" in answer["reason"]
    assert answer["untouched"] and answer["back"]
    assert answer["displaced"] == 0 and answer["events"] == [OFF]


def test_a_library_loaded_anew_to_the_same_place_is_no_tools_doing(
    run: Run, compile_library: Callable[..., Path]
) -> None:
    """Its slots are without hooks, where the one before it had some."""
    source = "#include <stdlib.h>\nvoid *get(size_t n) { return malloc(n); }\n"
    paths = [str(compile_library(source, f"again{i}", "-Wl,-z,now")) for i in range(3)]
    done = run(
        f"""
import _ctypes
dlopen = ctypes.CDLL(None).dlopen
dlopen.restype, dlopen.argtypes = ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_int]
def load(path): return dlopen(path.encode(), 2)
paths = {paths!r}
fastalloc.start(native=True, interval_bytes=1000)
handles, places = {{}}, set()
for i in range(60):
    for path in paths[i % 3:] + paths[:i % 2]:
        if path in handles: _ctypes.dlclose(handles.pop(path))
        else: handles[path] = load(path)
    if i % 5 < 3: fastalloc.status()
    places |= {{line.split("-")[0] for line in open("/proc/self/maps") if "libagain" in line}}
fastalloc.status()
snapshot = fastalloc.snapshot()
answer(displaced=snapshot.losses["displaced"], native=snapshot.native, events=events(snapshot), places=len(places))
"""
    )
    assert done.answer["displaced"] == 0
    assert done.answer["native"] and done.answer["events"] == [ON]
