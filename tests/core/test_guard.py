"""The guard acts before the memory runs out: each cause for real, and what it does then."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fastalloc
from fastalloc.demo.cgroup import CgroupUnavailable, MemoryCgroup
from tests.core.programs import GIVES_BACK, Finished, Programs, needs_memory_limit

MIB = 1 << 20

PRELUDE = """
import io, json, logging, os, sys, threading, time
import fastalloc
from fastalloc import background, guard
from tests.core.inside import *

log = io.StringIO()
logging.getLogger("fastalloc").addHandler(logging.StreamHandler(log))
logging.getLogger("fastalloc").propagate = False
MIB = 1 << 20
def rss(): return int(open("/proc/self/statm").read().split()[1]) * 4096
def lines(): return [json.loads(line) for line in log.getvalue().splitlines()]
def until(holds, seconds=10):
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end: time.sleep(0.005)
    return bool(holds())
def state(): return fastalloc.status().guard
def begin(room=200 * MIB, mode="light", **options):
    # The guard's line lies 0.9 * room above what is there now.
    limit = int(rss() + room)
    fastalloc.start(mode, memory_limit_bytes=limit, **options)
    return limit
def fill(count, size=64 * 1024):
    return [b"x" * size for _ in range(count)]
"""


def dumps_of(done: Finished) -> list[Path]:
    return sorted(done.directory.glob("dump-*"))


def guard_events(snapshot: fastalloc.Snapshot) -> list[Any]:
    """Without those that the watcher stamped and a thread then bore witness of, with its stack."""
    events = snapshot.events
    found = list(events[events["kind"] == "guard"])
    return [
        event
        for event, next_one in zip(found, [*found[1:], None], strict=True)
        if next_one is None or (event["a"], event["b"]) != (next_one["a"], next_one["b"])
    ]


def test_at_the_line_it_stamps_dumps_calls_and_logs_and_tracking_stops(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
from fastalloc.breaker import Breaker
called = []
@guard.on_trip
def broken(trip): called.append("broken"); raise ValueError("the program's own")
@guard.on_trip
def first(trip): called.append(trip.to_dict())
guard.on_warning(lambda trip: called.append(trip.kind))
begin(guard_rearm_percent=0)
def guilty(): return fill(450)
with fastalloc.span("GET /report"):
    kept = fill(2550)
    warned = until(lambda: called)
    kept += guilty()
acted = until(lambda: len(called) >= 3)
status = fastalloc.status()
before = fastalloc.snapshot().header["samples"]
more = fill(200)
after = fastalloc.snapshot().header["samples"]
answer(acted=acted, called=called, lines=lines(), active=status.active, reason=status.reason,
       guard=status.guard, trips=status.guard_trips, sampled=int(after - before),
       error=Breaker("guard callbacks").last_error)
"""
    )
    told = done.answer
    assert told["error"] in ("ValueError", "")
    assert told["acted"] and told["called"][0] == "warned" and told["called"][1] == "broken"
    trip = told["called"][2]
    (dump,) = dumps_of(done)
    assert trip["dump"] == str(dump) and 88 <= trip["percent"] <= 93
    assert "fill" in trip["frame"] or "guilty" in trip["frame"]
    warned, tripped = told["lines"]
    assert warned["event"] == "memory_warned" and tripped["event"] == "memory_tripped"
    assert tripped["dump"] == str(dump) and tripped["limit_source"] == "memory_limit_bytes"
    assert told["guard"] == "tripped" and told["trips"] == 1
    assert not told["active"] and "memory_limit_bytes" in told["reason"]
    assert told["sampled"] <= 2  # of some 25: one a thread may have begun before
    snapshot = fastalloc.read(dump)
    (first, second) = guard_events(snapshot)
    assert (first["a"], second["a"]) == (2, 3)
    assert second["span_name"] == "GET /report"
    functions = [frame.function for frame in snapshot.stack_of_node(int(second["node"]))]
    assert "guilty" in functions
    top = snapshot.top(by="live_bytes", group="span", limit=1)
    assert top[0].key == "GET /report"
    assert snapshot.dump["guard"]["state"] == "tripped"


def test_where_memory_climbs_slowly_the_dump_names_the_line_all_the_same(
    programs: Programs,
) -> None:
    # The watcher finds the line crossed long before the thread comes by that allocates, and gets the GIL at once.
    done = programs.run(
        PRELUDE
        + """
trips = []
guard.on_trip(lambda trip: trips.append(trip.frame))
begin(room=60 * MIB, guard_rearm_percent=0)
def guilty():
    kept = []
    while not trips:
        kept.append(b"x" * (256 * 1024))
        time.sleep(0.004)
    return kept
fill(640)
kept = guilty()
answer(frame=trips[0])
"""
    )
    (dump,) = dumps_of(done)
    assert done.answer["frame"].startswith("guilty ")
    snapshot = fastalloc.read(dump)
    trip = guard_events(snapshot)[-1]
    functions = [frame.function for frame in snapshot.stack_of_node(int(trip["node"]))]
    assert trip["a"] == 3 and "guilty" in functions


def test_what_was_alive_at_the_trip_stays_known_and_its_frees_are_seen(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
begin(room=150 * MIB, interval_bytes=20_000, guard_rearm_percent=0)
kept = fill(2500)
until(lambda: not fastalloc.status().active)
full = fastalloc.status().live_bytes
del kept[1250:]
half = fastalloc.status().live_bytes
answer(full=full, half=half)
"""
    )
    assert done.answer["full"] > 100 * MIB
    assert done.answer["half"] < 0.7 * done.answer["full"]


def test_one_large_allocation_is_stamped_before_it_is_made(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
limit = begin(room=300 * MIB)
def guilty(): return bytearray(290 * MIB)
before = rss()
kept = guilty()
tripped = state()
until(lambda: lines() and lines()[-1].get("dump"))
answer(tripped=tripped, before=before, limit=limit, rss=rss())
"""
    )
    assert done.answer["tripped"] == "tripped"
    header = done.snapshot().header
    assert (
        0 < header["guard_size"] - 290 * MIB < 64
    )  # a bytearray's own bytes, a bytes object's from 3.15 on
    assert header["guard_usage_bytes"] < done.answer["before"] + 4 * MIB
    snapshot = fastalloc.read(dumps_of(done)[0])
    (event,) = [event for event in guard_events(snapshot) if event["a"] == 3]
    assert snapshot.stack_of_node(int(event["node"]))[0].function == "guilty"


@needs_memory_limit
def test_an_allocation_that_cannot_succeed_trips_nothing(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
import resource
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + 600 * MIB, -1))
fastalloc.start()
refused = 0
for size in (1 << 30, 1 << 45, 1 << 60):
    try: bytearray(size)
    except MemoryError: refused += 1
answer(refused=refused, guard=state())
"""
    )
    assert done.answer["refused"] == 3 and done.answer["guard"] in ("armed", "warned")
    events = done.snapshot().events
    failed = events[events["kind"] == "failed_allocation"]
    assert failed["count"].sum() == 3 and failed["a"].max() >= 1 << 60


def test_a_growing_bytearray_is_not_taken_for_a_second_one(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
begin(room=400 * MIB, summary_percent=0)
kept = bytearray(200 * MIB)
for at in range(0, len(kept), 4096): kept[at] = 1
for _ in range(30): kept += b"y" * MIB
answer(guard=state(), rss=rss())
"""
    )
    assert done.answer["guard"] == "armed"


@pytest.mark.parametrize(
    "work",
    [
        "kept = list(range(1 << 40, (1 << 40) + 8_000_000))",  # one C call, the GIL held
        pytest.param("kept = fill(20_000, 16_000)", marks=pytest.mark.slow),
        pytest.param(
            "kept = [[[] for _ in range(1000)] for _ in range(4000)]", marks=pytest.mark.slow
        ),
    ],
)
@pytest.mark.parametrize("mode", ["light", "standby"])
def test_no_way_to_allocate_runs_past_the_line_unseen(
    programs: Programs, work: str, mode: str
) -> None:
    done = programs.run(
        PRELUDE
        + f"""
limit = begin(mode={mode!r}, summary_percent=0)
{work}
ended = time.monotonic_ns()
answer(limit=limit, guard=state(), rss=rss())
"""
    )
    assert done.answer["guard"] == "tripped"
    header = done.snapshot().header
    over = header["guard_usage_bytes"] - done.answer["limit"] * 0.9
    assert over < 8 * MIB, f"noticed {over / MIB:.1f} MiB late"
    assert done.answer["rss"] > header["guard_usage_bytes"] + 8 * MIB  # the program went on


@pytest.mark.slow
def test_many_threads_do_not_run_past_the_line(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
limit = begin(summary_percent=0)
kept = []
def work():
    for _ in range(2500): kept.append(library_without_gil.allocate(RAW, 10_000)); \
library_without_gil.release(RAW, library_without_gil.allocate(RAW, 10_000))
    for _ in range(300): kept.append(b"x" * 100_000)
threads = [threading.Thread(target=work) for _ in range(12)]
for thread in threads: thread.start()
for thread in threads: thread.join()
answer(limit=limit, guard=state())
"""
    )
    assert done.answer["guard"] == "tripped"
    header = done.snapshot().header
    assert header["guard_usage_bytes"] - done.answer["limit"] * 0.9 < 16 * MIB


def test_memory_touched_later_is_found_by_the_watcher(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
import mmap
memory = mmap.mmap(-1, 400 * MIB)
limit = begin()
time.sleep(1.2)
for at in range(0, len(memory), 4096):
    memory[at] = 1
    if at % MIB == 0: time.sleep(0.0005)
    if at % (64 * MIB) == 0 and state() == "tripped": break
acted = until(lambda: lines() and lines()[-1]["event"] == "memory_tripped")
answer(guard=state(), acted=acted, limit=limit)
"""
    )
    assert done.answer == {**done.answer, "guard": "tripped", "acted": True}
    header = done.snapshot().header
    assert header["guard_size"] == 0
    assert header["guard_usage_bytes"] < done.answer["limit"] * 1.1
    assert len(dumps_of(done)) == 1


@pytest.mark.slow
def test_it_is_armed_again_below_the_level_after_the_cooldown(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
begin(guard_rearm_percent=70, guard_cooldown_seconds=2, guard_dumps_per_day=2)
seen, times = [], []
for _ in range(3):
    kept = fill(3000)
    seen.append(until(lambda: state() == "tripped" and not fastalloc.status().active))
    began = time.monotonic()
    del kept
    seen.append(until(lambda: state() == "armed"))
    times.append(time.monotonic() - began)
    seen.append(fastalloc.status().active and fastalloc.status().mode)
answer(seen=seen, times=times, lines=[l for l in lines() if l["event"] == "memory_tripped"])
""",
        env=GIVES_BACK,
    )
    assert done.answer["seen"] == [True, True, "light"] * 3
    assert min(done.answer["times"]) > 1.4  # two seconds from the trip on
    assert len(dumps_of(done)) == 2
    reasons = [line["dump_reason"] for line in done.answer["lines"]]
    assert reasons[:2] == ["", ""] and "guard_dumps_per_day" in reasons[2]
    assert [int(event["a"]) for event in guard_events(done.snapshot())] == [2, 3, 1] * 3


@pytest.mark.slow
def test_it_stays_stopped_where_it_is_told_to(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
begin(guard_rearm_percent=0, guard_cooldown_seconds=0)
kept = fill(3000)
until(lambda: not fastalloc.status().active)
del kept
time.sleep(2.5)
stays = state()
fastalloc.configure({"mode": "aggressive"})
answer(stays=stays, mode=fastalloc.status().mode, active=fastalloc.status().active)
"""
    )
    assert done.answer == {"stays": "tripped", "mode": "aggressive", "active": True}


@pytest.mark.slow
def test_a_percent_of_0_turns_each_of_its_lines_off(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
begin(guard_percent=0, summary_percent=0)
kept = fill(3500)
time.sleep(1.2)
off = state()
fastalloc.stop()
del kept
begin(guard_percent=0)
kept = fill(3500)
warned = until(lambda: state() == "warned")
time.sleep(0.3)
answer(off=off, warned=warned, guard=state(), events=[line["event"] for line in lines()])
"""
    )
    assert done.answer == {
        "off": "off",
        "warned": True,
        "guard": "warned",
        "events": ["memory_warned"],
    }
    assert dumps_of(done) == []


def test_a_child_has_a_guard_of_its_own(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
import gc
begin(guard_rearm_percent=50, guard_cooldown_seconds=0)
kept = fill(3000)
assert until(lambda: lines() and not fastalloc.status().active)
told = len(lines())
pid = os.fork()
if pid == 0:
    code = 1
    try:
        kept.clear()
        with fastalloc.span("child"): pass
        code = 2
        # It is armed, and tracking goes on.
        if until(lambda: (gc.collect(), state() == "armed" and fastalloc.status().active)[1]): code = 3
        # More than its parent's: a child begins without the pages of files that its parent had touched.
        more = fill(4000)
        if code == 3 and until(lambda: lines()[told:] and not fastalloc.status().active): code = 0
    finally:
        sys.stderr.flush()
        os._exit(code)
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
answer(code=code, guard=state(), trips=fastalloc.status().guard_trips, child=pid)
""",
        env=GIVES_BACK,
    )
    assert done.answer["code"] == 0
    assert done.answer["guard"] == "tripped" and done.answer["trips"] == 1
    assert done.snapshot(done.answer["child"]).header["guard_trips"] == 1
    assert len(dumps_of(done)) == 2


def test_a_dump_that_cannot_be_written_stops_nothing_else(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
import resource
begin()
time.sleep(0.1)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, -1))
kept = fill(3000)
acted = until(lambda: lines() and lines()[-1]["event"] == "memory_tripped")
answer(acted=acted, line=lines()[-1], active=fastalloc.status().active)
"""
    )
    assert done.answer["acted"] and not done.answer["active"]
    assert done.answer["line"]["dump"] == "" and done.answer["line"]["dump_reason"]


@pytest.mark.slow
def test_in_a_real_cgroup_the_dump_is_complete_before_the_kernel_kills(programs: Programs) -> None:
    """Python code that allocates until it is killed: the line is 10 % of 256 MiB before the end."""
    source = (
        PRELUDE
        + """
fastalloc.start()
print(fastalloc.status().limit_source, flush=True)
kept = []
def guilty():
    while True: kept.append(b"x" * 20_000)
time.sleep(fastalloc.dumps.PREPARE_SECONDS + 1)
guilty()
"""
    )
    try:
        group = MemoryCgroup(256 * MIB).__enter__()
    except CgroupUnavailable as unavailable:
        pytest.skip(str(unavailable))
    directory = programs.base / "killed"
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", source],
            env=programs.environment(directory, {}),
            cwd=programs.base,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=group.enter,
        )
        stdout, _ = process.communicate(timeout=60)
        assert process.returncode == -9 and group.oom_kills() >= 1
    finally:
        group.__exit__(None, None, None)
    assert str(group.path) in stdout
    (recording,) = directory.glob("*.recording")
    snapshot = fastalloc.read(recording)
    assert snapshot.header["guard_trips"] == 1
    over = snapshot.header["guard_usage_bytes"] - 0.9 * 256 * MIB
    assert over < 8 * MIB
    (event,) = [event for event in guard_events(snapshot) if event["a"] == 3]
    assert snapshot.stack_of_node(int(event["node"]))[0].function == "guilty"
    (dump,) = directory.glob("dump-*")
    assert json.loads((dump / "state.json").read_text())["reason"] == "guard"


def test_a_program_that_switches_off_and_on_is_obeyed_whatever_the_guard_has_done(
    programs: Programs,
) -> None:
    done = programs.run(
        PRELUDE
        + """
def modes(): return [fastalloc.status().active, state()]
begin(guard_cooldown_seconds=0)
kept = fill(3000)
assert until(lambda: not fastalloc.status().active)
fastalloc.disable()
kept.clear()
background.soon(lambda: looked.append(1)); looked = []
assert until(lambda: looked)
time.sleep(1.5)  # the watcher has looked, and would have armed it again
off = modes()
fastalloc.enable()
assert until(lambda: modes() == [True, "armed"])
kept = fill(3000)
again = until(lambda: not fastalloc.status().active)
kept.clear()
answer(off=off, again=again, rearmed=until(lambda: modes() == [True, "armed"]))
""",
        env=GIVES_BACK,
    )
    assert done.answer["off"] == [False, "tripped"]
    assert done.answer["again"] and done.answer["rearmed"]
