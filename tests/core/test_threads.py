"""Threads: their names, their ends, and far too many of them."""

from __future__ import annotations

import pytest

from tests.core.programs import Programs

PRELUDE = """
import threading, time
import fastalloc
from tests.core.inside import *
"""


def test_samples_carry_the_threads_name(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
kept = []
early_go = threading.Event()
def work(size): kept.append(bytes(size))
def wait_and_work(size): early_go.wait(); work(size)
early = threading.Thread(target=wait_and_work, args=(9_000_001,), name="early bird")
early.start()
fastalloc.start()
early_go.set(); early.join()
named = threading.Thread(target=work, args=(9_000_002,), name="wörker ß")
named.start(); named.join()
class Custom(threading.Thread):
    def run(self): work(9_000_003)
custom = Custom(name="custom"); custom.start(); custom.join()
timer = threading.Timer(0, work, (9_000_004,)); timer.name = "timer"; timer.start(); timer.join()
work(9_000_005)
import _thread
done = threading.Event()
_thread.start_new_thread(lambda: (work(9_000_006), done.set()), ()); done.wait()
fastalloc.stop()
"""
    )
    snapshot = done.snapshot()
    names = {
        int(s["size"]) - 9_000_033: str(s["thread_name"])
        for s in snapshot.live
        if s["size"] > 9_000_000
    }
    assert {n: names[n] for n in (1, 2, 3, 4, 5)} == {
        **{1: "early bird", 2: "wörker ß", 3: "custom", 4: "timer", 5: "MainThread"},
    }
    assert names[6]  # the kernel's
    held = {str(t["name"]): int(t["live_bytes"]) for t in snapshot.thread_names}
    assert 9_000_000 <= held["early bird"] < 9_100_000


def test_two_thousand_threads_leave_their_totals_and_few_slots(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
fastalloc.start()
before = fastalloc.snapshot()
def work(index): library_without_gil.churn(RAW, 1000, 1000)
for start in range(0, 2000, 20):
    threads = [threading.Thread(target=work, args=(i,), name=f"thread {i}") for i in range(start, start + 20)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
fastalloc.stop()
answer(before=before.total_bytes)
"""
    )
    snapshot = done.snapshot()
    added = snapshot.total_bytes - done.answer["before"]
    assert 2000 * 1000 * 1000 <= added < 2000 * 1000 * 1000 + 2000 * 100_000
    assert snapshot.phases["bytes"].sum() == snapshot.total_bytes
    assert snapshot.losses["threads"] == 0
    # There is room for fewer names than threads: numbers in them are folded then.
    names = [str(name) for name in snapshot.thread_names["name"]]
    assert "thread 7" in names and "thread *" in names and len(names) < 200
    assert snapshot.losses["thread_names"] == snapshot.losses["strings"] == 0


def test_thread_names_without_end_are_counted_as_lost(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
fastalloc.start()
def name(n):
    letters = ""
    while n: n, digit = divmod(n, 26); letters += chr(97 + digit)
    return "thread " + letters
for n in range(1, 1000):
    thread = threading.Thread(target=library.churn, args=(RAW, 1000, 10), name=name(n))
    thread.start(); thread.join()
fastalloc.stop()
"""
    )
    snapshot = done.snapshot()
    assert snapshot.losses["thread_names"] > 500
    assert snapshot.phases["bytes"].sum() == snapshot.total_bytes


def test_more_threads_than_slots_are_counted_as_lost(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
threading.stack_size(256 * 1024)
fastalloc.start()
barrier = threading.Barrier(601)
def work():
    library_without_gil.churn(RAW, 100, 10)
    barrier.wait()
threads = [threading.Thread(target=work) for _ in range(600)]
for thread in threads: thread.start()
barrier.wait()
for thread in threads: thread.join()
snapshot = fastalloc.snapshot()
kept = bytes(9_000_000)
after = threading.Thread(target=lambda: library_without_gil.churn(RAW, 9_000_000, 10))
after.start(); after.join()
fastalloc.stop()
answer(lost=snapshot.losses["threads"])
"""
    )
    assert 80 <= done.answer["lost"] <= 120
    snapshot = done.snapshot()
    assert snapshot.phases["bytes"].sum() == snapshot.total_bytes
    assert snapshot.total_bytes > 99_000_000  # slots are free again


@pytest.mark.parametrize("stop", ["", "fastalloc.stop()", "sys.exit(3)", "os._exit(3)"])
def test_daemon_threads_may_allocate_while_the_interpreter_goes(
    programs: Programs, stop: str
) -> None:
    for _ in range(3):
        done = programs.run(
            PRELUDE
            + f"""
import os, sys, zlib
fastalloc.start(interval_bytes=1000)
def python():
    while True: [str(i) * 10 for i in range(100)]
def raw():
    while True: library_without_gil.storm(RAW, 5, 100_000)
def compress():
    text = bytes(1_000_000)
    while True: zlib.compress(text)
def foreign():
    while True: library_without_gil.storm_in_foreign_threads(2, 1000)
for work in (python, python, raw, compress, foreign):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.1)
{stop}
""",
            returncode=3 if "3" in stop else 0,
        )
        snapshot = done.snapshot()
        expected = {"fastalloc.stop()": "stopped", "os._exit(3)": "killed"}
        assert snapshot.state == expected.get(stop, "exited")
        if snapshot.consistent:
            assert snapshot.live_bytes == snapshot.live["weight"].sum()


def test_destructors_and_exit_handlers_run_recorded_or_not(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
import atexit
class Late:
    def __del__(self):
        with fastalloc.span("late"), fastalloc.phase("later"): fastalloc.checkpoint("latest")
        kept = [bytes(1000) for _ in range(100)]
atexit.register(lambda: print("status", fastalloc.status().active))
late = Late()
fastalloc.start(interval_bytes=1)
local = threading.local()
local.late = Late()
holder = [Late()]; holder.append(holder)
"""
    )
    assert "Error" not in done.stderr and "Exception" not in done.stderr, done.stderr
    assert done.snapshot().state == "exited"


@pytest.mark.parametrize("interval", [1, 524288])
def test_subinterpreters_work_or_refuse_clearly(programs: Programs, interval: int) -> None:
    done = programs.run(
        PRELUDE
        + f"""
import warnings
try:
    import _interpreters as interpreters
    run = lambda i, code: interpreters.exec(i, code)
except ImportError:
    import _xxsubinterpreters as interpreters
    run = interpreters.run_string
fastalloc.start(interval_bytes={interval}, scale=8)
work = '''
kept = [dict(a=i, b=[i] * 50) for i in range(2000)]
text = "x" * 1_000_000
del kept
'''
inside = '''
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    try:
        import fastalloc
        with fastalloc.span("inner"): kept = [bytes(1000) for _ in range(100)]
        fastalloc.start()
        assert fastalloc.status().active or fastalloc.status().reason, "no reason"
    except ImportError:
        pass
'''
ids = []
for _ in range(5):
    ids.append(interpreters.create())
    result = run(ids[-1], work)
    assert result is None, result
    result = run(ids[-1], inside)
    assert result is None, result
threads = [threading.Thread(target=run, args=(i, work)) for i in ids]
for thread in threads: thread.start()
for thread in threads: thread.join()
for each in ids[:3]: interpreters.destroy(each)
with fastalloc.span("main"): kept = [bytes(1000) for _ in range(100)]
fastalloc.stop()
for each in ids[3:]: interpreters.destroy(each)
answer(ok=True)
""",
    )
    assert done.answer == {"ok": True}
    for path in done.recordings[:1]:
        import fastalloc

        snapshot = fastalloc.read(path)
        assert snapshot.consistent
        assert snapshot.phases["bytes"].sum() == snapshot.total_bytes
