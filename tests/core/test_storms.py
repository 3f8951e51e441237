"""Modes, hooks and other tools' hooks change while threads allocate with and without the GIL."""

from __future__ import annotations

from itertools import pairwise

import pytest

import fastalloc
from tests.core.programs import PATIENCE, Programs

# Threads that allocate all the while; `stop_storm()` returns how many blocks were damaged.
PRELUDE = """
import bz2, hashlib, json, lzma, os, sys, threading, time, zlib
sys.setswitchinterval(0.0005)
import fastalloc
from tests.core.inside import *

go_on, damaged, failures = True, [], []
def guarded(work):
    def run():
        try:
            while go_on: work()
        except BaseException as error:
            failures.append(repr(error))
    return run
text = bytes(range(256)) * 400
def foreign(): damaged.append(library.storm_in_foreign_threads(2, 4000))
def raw(): damaged.append(library_without_gil.storm(RAW, threading.get_ident(), 4000))
def objects(): damaged.append(library.storm(OBJ, threading.get_ident(), 500))
def mems(): damaged.append(library.storm(MEM, threading.get_ident(), 500))
def compressors():
    assert zlib.decompress(zlib.compress(text)) == text
    assert lzma.decompress(lzma.compress(text, preset=0)) == text
    assert bz2.decompress(bz2.compress(text[:9000])) == text[:9000]
    hashlib.sha256(text).hexdigest()
def python():
    assert json.loads(json.dumps({str(i): [i] * 5 for i in range(300)}))["7"] == [7] * 5
threads = [threading.Thread(target=guarded(work), daemon=True)
           for work in (foreign, raw, objects, mems, compressors, python)]
def start_storm():
    for thread in threads: thread.start()
def stop_storm():
    global go_on
    go_on = False
    for thread in threads: thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return sum(damaged)
"""


@pytest.mark.parametrize("times", [150, pytest.param(1000, marks=pytest.mark.slow)])
def test_hundreds_of_starts_and_stops_in_a_storm_tear_nothing(
    programs: Programs, times: int
) -> None:
    done = programs.run(
        PRELUDE
        + """
start_storm()
started = 0
modes = ["light", "standby", "aggressive", "light"]
for i in range(TIMES):
    fastalloc.start(modes[i % 4], interval_bytes=(50, 500, 60_000)[i % 3])
    started += fastalloc.status().active
    if i % 5 == 0: time.sleep(0.002)
    fastalloc.stop()
    if i % 10: os.remove(fastalloc.status().recording)
answer(damaged=stop_storm(), failures=failures, started=started)
""".replace("TIMES", str(times)),
        timeout=900,
    )
    assert done.answer == {"damaged": 0, "failures": [], "started": times}
    assert len(done.recordings) == times / 10
    for path in done.recordings:
        snapshot = fastalloc.read(path)
        assert snapshot.state == "stopped" and snapshot.consistent
        assert snapshot.live_bytes == snapshot.live["weight"][snapshot.live["domain"] != 3].sum()


@pytest.mark.parametrize("allocator_name", ["pymalloc", "malloc", "pymalloc_debug"])
def test_modes_switch_in_a_storm_and_each_switch_is_an_event(
    programs: Programs, allocator_name: str
) -> None:
    done = programs.run(
        PRELUDE
        + """
fastalloc.start("standby")
start_storm()
wanted = []
for i in range(60):
    mode = ("light", "aggressive", "standby")[i % 3]
    fastalloc.configure({"mode": mode})
    assert fastalloc.status().mode == mode
    wanted.append(mode)
    if i % 10 == 9: fastalloc.configure({"mode": "light", "interval_bytes": 700})
    time.sleep(0.004)
kept = [bytes(300_000) for _ in range(200)]
answer(damaged=stop_storm(), failures=failures)
fastalloc.stop()
""",
        env={"PYTHONMALLOC": allocator_name},
    )
    assert done.answer == {"damaged": 0, "failures": []}
    snapshot = done.snapshot()
    modes = ("disabled", "standby", "light", "aggressive", "targeted")
    events = snapshot.events[snapshot.events["kind"] == "mode"]
    seen = [(modes[e["a"]], modes[e["b"]]) for e in events]
    assert len(seen) >= 60
    assert all(after[0] == before[1] for before, after in pairwise(seen))
    assert set(seen) >= {
        ("standby", "light"),
        ("light", "aggressive"),
        ("aggressive", "standby"),
    }
    assert snapshot.consistent
    assert snapshot.live_bytes == snapshot.live["weight"][snapshot.live["domain"] != 3].sum()


def test_the_interval_changes_in_a_storm_and_estimates_stay_right(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
fastalloc.start(interval_bytes=100_000, scale=4)
start_storm()
kept = []
for i in range(200):
    fastalloc.configure({"interval_bytes": (5_000, 100_000, 30_000, 1_000_000)[i % 4]})
    kept.append([Blocks(50).allocate(1000 + i) for _ in range(20)])
    time.sleep(0.001)
answer(damaged=stop_storm(), failures=failures)
fastalloc.stop()
"""
    )
    assert done.answer == {"damaged": 0, "failures": []}
    snapshot = done.snapshot()
    ours = (snapshot.live["size"] >= 1000) & (snapshot.live["size"] < 1200)
    ours &= [
        snapshot.stack(int(site))[0].function == "Blocks.allocate" for site in snapshot.live["site"]
    ]
    truth = sum(1000 * (1000 + i) for i in range(200))
    weights, sizes = snapshot.live["weight"][ours], snapshot.live["size"][ours]
    error = float((weights * (weights - sizes)).sum()) ** 0.5
    # Five standard errors: one run in two million fails by chance.
    assert abs(int(weights.sum()) - truth) < 5 * error
    assert error < truth / 5
    intervals = snapshot.events[snapshot.events["kind"] == "interval"]
    assert len(intervals) >= 199


@pytest.mark.parametrize("allocator_name", ["pymalloc", "pymalloc_debug"])
@pytest.mark.parametrize("order", ["inside", "around", "before", "after"])
def test_tracemalloc_comes_and_goes_beside_it(
    programs: Programs, order: str, allocator_name: str
) -> None:
    steps = {
        "inside": "fastalloc.start(interval_bytes=1, scale=2); work(); tracemalloc.start(); work();"
        "tracemalloc.stop(); work(); fastalloc.stop(); work()",
        "around": "tracemalloc.start(); work(); fastalloc.start(interval_bytes=1, scale=2); work();"
        "fastalloc.stop(); work(); tracemalloc.stop(); work()",
        "before": "tracemalloc.start(); work(); fastalloc.start(interval_bytes=1, scale=2); work();"
        "tracemalloc.stop(); work(); fastalloc.stop(); work()",
        "after": "fastalloc.start(interval_bytes=1, scale=2); work(); tracemalloc.start(); work();"
        "fastalloc.stop(); work(); tracemalloc.stop(); work()",
    }[order]
    done = programs.run(
        f"""
        import tracemalloc
        import fastalloc
        from fastalloc import background
        from tests.core.inside import *
        # CPython races when any C thread takes the GIL while another one is in tracemalloc.stop().
        background.every = lambda *job, **options: None
        traced = []
        kept = []
        def work():
            for domain in DOMAINS:
                assert library.storm(domain, len(kept) + 1, 5000) == 0
            if tracemalloc.is_tracing():
                before = tracemalloc.get_traced_memory()[0]
                kept.append([bytes(1000) for _ in range(100)])
                traced.append(tracemalloc.get_traced_memory()[0] - before)
            else:
                kept.append([bytes(100) for _ in range(100)])
        for _ in range(3):
            {steps}
            kept.clear()
        fastalloc.start(interval_bytes=1, scale=2)
        blocks = Blocks(100, OBJ).allocate(200)
        held = alive_of(blocks.addresses(), 200)
        blocks.release()
        left = alive_of(blocks.addresses(), 200)
        status = fastalloc.status()
        answer(traced=traced, held=held, left=left, design=status.free_design,
               displaced=status.hooks_displaced)
        """,
        env={"PYTHONMALLOC": allocator_name},
    )
    assert all(100 * 1033 <= size < 100 * 1033 + 5000 for size in done.answer["traced"])
    assert (done.answer["held"], done.answer["left"]) == (100, 0)
    assert not done.answer["displaced"]
    assert done.answer["design"] == ("divert" if allocator_name == "pymalloc" else "filter")


def test_hooks_that_another_tool_took_away_are_told_by_status(programs: Programs) -> None:
    done = programs.run(
        """
        import tracemalloc
        import fastalloc
        tracemalloc.start()
        fastalloc.start()
        before = fastalloc.status()
        tracemalloc.stop()  # puts back what it found: our hooks are gone
        after = fastalloc.status()
        fastalloc.stop()
        fastalloc.start()
        again = fastalloc.status()
        from tests.core.inside import answer
        answer(before=before.hooks_displaced, after=after.hooks_displaced, reason=after.reason,
               again=again.hooks_displaced)
        """
    )
    assert done.answer["before"] is False
    assert done.answer["after"] is True
    assert "hooks" in done.answer["reason"]
    assert done.answer["again"] is False


@pytest.mark.parametrize("python_allocators", [False, True])
def test_memray_records_at_the_same_time(
    programs: Programs, tmp_path, python_allocators: bool
) -> None:
    pytest.importorskip("memray")
    done = programs.run(
        PRELUDE
        + f"""
import memray
start_storm()
for i in range(3):
    if i == 0: fastalloc.start(interval_bytes=500, scale=4)
    with memray.Tracker({str(tmp_path / "memray")!r} + str(i),
                        trace_python_allocators={python_allocators}):
        if i == 1: fastalloc.start(interval_bytes=500, scale=4)
        kept = [bytes(400) for _ in range(10_000)]
        time.sleep(0.05)
        if i == 2: fastalloc.stop()
    if i == 0:
        live_bytes = fastalloc.snapshot().live_bytes
        fastalloc.stop()
answer(damaged=stop_storm(), failures=failures, live=live_bytes)
"""
    )
    assert (done.answer["damaged"], done.answer["failures"]) == (0, [])
    assert done.answer["live"] > 3_000_000
    for path in done.recordings:
        assert fastalloc.read(path).consistent


def test_signal_handlers_may_allocate_and_open_spans_at_any_time(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + f"PERIOD = {0.0005 * PATIENCE}"
        + """
import signal
fastalloc.start(interval_bytes=300)
handled = 0
def handler(number, frame):
    global handled
    handled += 1
    with fastalloc.span("signal"), fastalloc.phase("inner"):
        [bytes(n) for n in range(100)]
        fastalloc.checkpoint("signal")
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, PERIOD, PERIOD)  # longer than the handler takes
start_storm()
end = time.monotonic() + 2
while time.monotonic() < end:
    with fastalloc.span("work"): python()
signal.setitimer(signal.ITIMER_REAL, 0)
answer(damaged=stop_storm(), failures=failures, handled=handled)
fastalloc.stop()
"""
    )
    assert (done.answer["damaged"], done.answer["failures"]) == (0, [])
    assert done.answer["handled"] > 50
    snapshot = done.snapshot()
    assert snapshot.phases["bytes"].sum() == snapshot.total_bytes
    names = [str(name) for name in snapshot.phases["span_name"]]
    assert {"signal", "work"} <= set(names)
