"""Hooks go in and out while threads allocate, libraries come and go, processes fork, and signals arrive."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import fastalloc
from tests.native_memory.conftest import NativePrograms
from tests.native_memory.storm import LOADED, PRELUDE


@pytest.fixture(scope="session")
def libraries(compile_library: Callable[..., Path]) -> str:
    """Two libraries to load and unload, one bound at once and one lazily."""
    paths = [
        compile_library(LOADED, "loaded_now", "-Wl,-z,now,-z,relro"),
        compile_library(LOADED, "loaded_lazily", "-Wl,-z,lazy,-z,norelro"),
    ]
    return ":".join(map(str, paths))


@pytest.mark.parametrize("times", [15, pytest.param(150, marks=pytest.mark.slow)])
def test_starts_and_stops_in_a_storm_tear_nothing(
    programs: NativePrograms, libraries: str, times: int
) -> None:
    done = programs.run(
        PRELUDE
        + """
before = slots()
start_storm()
native = 0
modes = ["light", "standby", "aggressive", "light"]
for i in range(TIMES):
    fastalloc.start(modes[i % 4], interval_bytes=(50, 500, 60_000)[i % 3], native=True)
    native += fastalloc.status().native
    time.sleep(0.005 * (i % 3))
    if i % 7 == 0:
        fastalloc.disable()
        fastalloc.enable()
    fastalloc.stop()
    os.remove(fastalloc.status().recording)
bad = stop_storm()
after = slots()
bound = {}
for name, function, value in before.values(): bound.setdefault(function, set()).add(value)
wrong = [entry for slot, entry in after.items() if before.get(slot, entry) != entry and entry[2] not in bound[entry[1]]]
answer(damaged=bad, failures=failures, native=native, idle=[w.__name__ for w in works if not turns.get(w.__name__)],
       wrong=wrong)
""".replace("TIMES", str(times)),
        env={"TEST_LIBRARIES": libraries},
        timeout=900,
    )
    assert done.answer["damaged"] == 0 and done.answer["failures"] == []
    assert done.answer["native"] == times
    assert done.answer["idle"] == []
    assert done.answer["wrong"] == []


@pytest.mark.slow
def test_recording_goes_on_through_a_storm(programs: NativePrograms, libraries: str) -> None:
    done = programs.run(
        PRELUDE
        + """
fastalloc.start(interval_bytes=3000, native=True, scale=4)
start_storm()
time.sleep(5)
status = fastalloc.status()
bad = stop_storm()
fastalloc.stop()
answer(damaged=bad, failures=failures, native=status.native, reason=status.native_reason)
""",
        env={"TEST_LIBRARIES": libraries},
    )
    assert done.answer["damaged"] == 0 and done.answer["failures"] == []
    assert done.answer["native"], done.answer["reason"]
    snapshot = done.snapshot()
    live = snapshot.live
    assert snapshot.consistent and len(snapshot.freed) > 1000
    assert snapshot.live_bytes == live["weight"][live["domain"] != 3].sum()
    # All that the storm took was freed again.
    assert live["weight"][live["domain"] >= 4].sum() < 3_000_000


@pytest.mark.slow
def test_forks_in_a_storm(programs: NativePrograms, libraries: str) -> None:
    done = programs.run(
        PRELUDE
        + """
fastalloc.start(interval_bytes=2000, native=True)
start_storm()
codes = []
for i in range(40):
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(20)
            status = 1
            calls.storm(i, 2000)
            block = calls.call_malloc(1 << 20)
            ok = sample_at(block) is not None and fastalloc.status().native
            if i % 2: fastalloc.stop()
            status = 0 if ok else 3
        finally:
            os._exit(status)
    codes.append(os.waitpid(pid, 0)[1])
answer(codes=codes, damaged=stop_storm(), failures=failures)
""",
        env={"TEST_LIBRARIES": libraries},
    )
    assert done.answer["codes"] == [0] * 40
    assert done.answer["damaged"] == 0 and done.answer["failures"] == []


def test_signal_handlers_that_map_memory(programs: NativePrograms) -> None:
    """A C handler in the midst of our own work: it gets its memory, at worst unseen."""
    done = programs.run(
        PRELUDE
        + """
fastalloc.start(interval_bytes=1, native=True, scale=8)
handled = calls.storm_under_signals(1.0)
snapshot = fastalloc.snapshot()
answer(handled=handled, consistent=snapshot.consistent, native=fastalloc.status().native)
""",
        env={"TEST_LIBRARIES": ""},
    )
    assert done.answer["handled"] > 300
    assert done.answer["consistent"] and done.answer["native"]


def test_exit_in_the_midst_of_a_storm(programs: NativePrograms, libraries: str) -> None:
    done = programs.run(
        PRELUDE
        + """
fastalloc.start(interval_bytes=2000, native=True)
start_storm()
time.sleep(0.5)
answer(done=True)
sys.exit(0)
""",
        env={"TEST_LIBRARIES": libraries},
    )
    assert done.answer == {"done": True}
    assert fastalloc.read(done.recordings[-1]).state == "exited"


@pytest.mark.slow
@pytest.mark.stress
def test_all_of_it_at_once() -> None:
    command = [sys.executable, "-m", "tests.native_memory.storm", "--seconds", "20"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
