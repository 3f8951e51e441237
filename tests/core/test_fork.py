"""A forked child goes on in a recording of its own, with its parent's live heap.

It gets a file when it turns out to live: at its first span, for instance.
"""

from __future__ import annotations

import json

import pytest

import fastalloc
from tests.core.programs import Finished, Programs

# Reports of children and their parent, one JSON a line.
PRELUDE = """
import json, os, sys, threading, time
import fastalloc
from tests.core.inside import *

def report(**values):
    os.write(1, ("\\nREPORT " + json.dumps({"pid": os.getpid(), **values}) + "\\n").encode())

def in_child(work):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            with fastalloc.span("child"): pass
            work()
            code = 0
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, status
    return pid
"""


def run(programs: Programs, body: str, timeout: float = 120) -> tuple[Finished, list[dict]]:
    done = programs.run(PRELUDE + body, timeout=timeout)
    lines = [line for line in done.stdout.splitlines() if line.startswith("REPORT ")]
    return done, [json.loads(line.removeprefix("REPORT ")) for line in lines]


def assert_consistent(snapshot: fastalloc.Snapshot) -> None:
    """What holds in every recording that was written to its end."""
    assert snapshot.consistent and not snapshot.repaired
    live = snapshot.live
    assert snapshot.live_bytes == live["weight"][live["domain"] != 3].sum()
    assert snapshot.phases["live_bytes"].sum() == snapshot.live_bytes
    assert snapshot.phases["bytes"].sum() == snapshot.total_bytes
    assert snapshot.phases["count"].sum() == snapshot.total_count
    assert snapshot.high_water_bytes >= snapshot.live_bytes


def test_the_child_holds_what_the_parent_held_and_neither_sees_the_others_changes(
    programs: Programs,
) -> None:
    done, (child, parent) = run(
        programs,
        """
fastalloc.start(interval_bytes=1, scale=2)
with fastalloc.span("preload"):
    shared = Blocks(100).allocate(3000)
dropped = Blocks(50).allocate(4000)
def work():
    before = alive_of(shared.addresses(), 3000), alive_of(dropped.addresses(), 4000)
    dropped.release()
    own = Blocks(70).allocate(5000)
    after = (alive_of(shared.addresses(), 3000), alive_of(dropped.addresses(), 4000),
             alive_of(own.addresses(), 5000))
    report(before=before, after=after, recording=fastalloc.status().recording)
    fastalloc.stop()
pid = in_child(work)
own = Blocks(30).allocate(6000)
report(held=[alive_of(shared.addresses(), 3000), alive_of(dropped.addresses(), 4000),
             alive_of(own.addresses(), 6000), sum(s.size == 5000 for s in live().values())],
       recording=fastalloc.status().recording)
fastalloc.stop()
""",
    )
    assert child["before"] == [100, 50]
    assert child["after"] == [100, 0, 70]
    assert parent["held"] == [100, 50, 30, 0]
    assert len(done.recordings) == 2 and child["recording"] != parent["recording"]
    of_child, of_parent = done.snapshot(child["pid"]), done.snapshot(parent["pid"])
    assert of_child.pid == child["pid"] and of_child.parent_pid == parent["pid"]
    assert of_parent.pid == parent["pid"]
    for snapshot in (of_child, of_parent):
        assert_consistent(snapshot)
        assert snapshot.state == "stopped"
        assert set(snapshot.live[snapshot.live["size"] == 3000]["span_id"]) == {1}
    assert of_child.events["kind"][0] == "fork"
    assert of_child.events["a"][0] == parent["pid"]
    assert "fork" not in list(of_parent.events["kind"])
    # The child's counters start from zero: it made 70 blocks and little else.
    assert 350_000 <= of_child.total_bytes < 3_000_000
    assert of_parent.total_bytes > 100 * 3000 + 50 * 4000 + 30 * 6000
    assert len(of_parent.live[of_parent.live["size"] == 5000]) == 0


def test_a_child_of_a_child_goes_on_too(programs: Programs) -> None:
    done, reports = run(
        programs,
        """
fastalloc.start(interval_bytes=1, scale=2)
kept = Blocks(10).allocate(1000)
def descend(depth):
    more = Blocks(10 + depth).allocate(2000 + depth)
    if depth < 4:
        in_child(lambda: descend(depth + 1))
    report(depth=depth, kept=alive_of(kept.addresses(), 1000),
           sizes=sorted(s.size for s in live().values() if 2000 <= s.size < 2010))
descend(0)
""",
    )
    assert len(done.recordings) == 5
    for each in reports:
        depth = each["depth"]
        assert each["kept"] == 10
        assert each["sizes"] == [2000 + d for d in range(depth + 1) for _ in range(10 + d)]
        snapshot = done.snapshot(each["pid"])
        assert_consistent(snapshot)
        # Left through os._exit, but for the first.
        assert snapshot.state == ("killed" if depth else "exited")


def test_a_fork_in_a_thread_while_others_allocate_leaves_both_sides_whole(
    programs: Programs,
) -> None:
    done, reports = run(
        programs,
        """
import warnings
warnings.simplefilter("ignore")
fastalloc.start(interval_bytes=2000, scale=2)
go_on = True
def storm(seed):
    while go_on:
        library_without_gil.storm(RAW, seed, 5000)
threads = [threading.Thread(target=storm, args=(i,)) for i in range(3)]
for thread in threads: thread.start()
def work():
    with fastalloc.span("working"):
        damaged = library.storm(OBJ, 7, 20_000) + library.storm(RAW, 8, 20_000)
        blocks = Blocks(100).allocate(100_000)
    names = list(fastalloc.snapshot().threads["name"])
    report(damaged=damaged, threads=len([name for name in names if "fastalloc" not in name]))
def forks():
    for _ in range(25):
        in_child(work)
forker = threading.Thread(target=forks)
forker.start()
forker.join()
go_on = False
for thread in threads: thread.join()
fastalloc.stop()
report(parent=True)
""",
    )
    assert len(reports) == 26 and len(done.recordings) == 26
    for each in reports[:-1]:
        assert each["damaged"] == 0
        assert each["threads"] == 1
        snapshot = done.snapshot(each["pid"])
        assert_consistent(snapshot)
        of_span = snapshot.live["span_id"] == 2
        assert snapshot.live["weight"][of_span].sum() >= 9_000_000
    parent = done.snapshot(reports[-1]["pid"])
    assert_consistent(parent)
    assert "working" not in list(parent.phases["span_name"])


def test_a_span_open_at_the_fork_goes_on_in_the_child(programs: Programs) -> None:
    done, (child,) = run(
        programs,
        """
fastalloc.start(interval_bytes=1, scale=2)
with fastalloc.span("request") as outer:
    def work():
        blocks = Blocks(10).allocate(10_000)
        with fastalloc.phase("inner"):
            more = Blocks(10).allocate(20_000)
        report(id=outer.id)
        outer.__exit__(None, None, None)
        fastalloc.stop()
    in_child(work)
    mine = Blocks(3).allocate(30_000)
fastalloc.stop()
""",
    )
    of_child, of_parent = done.snapshot(child["pid"]), fastalloc.read(done.recordings[0])
    span = of_child.records[of_child.records["name"] == "request"][-1]
    assert span["name"] == "request" and span["bytes"] >= 300_000 and span["bytes"] < 400_000
    (span,) = of_parent.records[of_parent.records["kind"] == "span"]
    assert 90_000 <= span["bytes"] < 150_000
    for size in (10_000, 20_000):
        assert set(of_child.live["span_id"][of_child.live["size"] == size]) == {1}


def test_multiprocessing_pools_and_subprocesses_work(programs: Programs) -> None:
    done, reports = run(
        programs,
        """
import multiprocessing, subprocess, functools
context = multiprocessing.get_context("fork")
def task(n):
    with fastalloc.span("task"):
        block = bytes(1_000_000)
    return os.getpid(), sum(range(n))
def show(n):
    report(child=n, active=fastalloc.status().active)
fastalloc.start()
with context.Pool(3) as pool:
    results = pool.map(task, range(50))
assert [r[1] for r in results] == [sum(range(n)) for n in range(50)]
processes = [context.Process(target=show, args=(n,)) for n in range(3)]
for process in processes: process.start()
for process in processes: process.join()
out = subprocess.run([sys.executable, "-c", "print(6 * 7)"], capture_output=True, text=True)
assert out.stdout == "42\\n", out
out = subprocess.run("echo $((6 * 7))", shell=True, capture_output=True, text=True,
                     preexec_fn=lambda: None)
assert out.stdout == "42\\n", out
with context.Manager() as manager:
    shared = manager.list(range(5))
    assert sum(shared) == 10
report(pids=sorted({r[0] for r in results}))
""",
    )
    assert [each["active"] for each in reports if "child" in each] == [True] * 3
    pids = reports[-1]["pids"]
    assert sum(done.snapshot(pid).phases["entered"].sum() > 1 for pid in pids) == len(pids)
    spans = 0
    for pid in pids:
        records = done.snapshot(pid).records
        spans += (records["name"] == "task").sum()
    assert spans == 50


def test_a_fork_after_stop_or_while_disabled_records_nothing_until_started(
    programs: Programs,
) -> None:
    done, reports = run(
        programs,
        """
fastalloc.start(interval_bytes=1000)
kept = Blocks(100).allocate(10_000)
fastalloc.disable()
def work():
    blocks = Blocks(100).allocate(50_000)
    kept.release()
    before = fastalloc.status().active
    fastalloc.start(interval_bytes=1000)
    more = Blocks(100).allocate(60_000)
    report(before=before, live=fastalloc.status().live_bytes)
    fastalloc.stop()
in_child(work)
fastalloc.enable()
more = Blocks(100).allocate(20_000)
report(live=fastalloc.status().live_bytes)
fastalloc.stop()
in_child(work)
in_child(lambda: report(active=fastalloc.status().active))
""",
    )
    first, parent, second, last = reports
    for each in (first, second):
        assert not each["before"]
        assert 6_000_000 <= each["live"] < 8_000_000
    assert 2_000_000 <= parent["live"] < 4_000_000
    assert not last["active"]
    # The child of the switched-off process had one of its own, which its start closed.
    assert len(done.recordings) == 4
    for path in done.recordings:
        assert_consistent(fastalloc.read(path))


def test_a_child_that_cannot_have_a_file_goes_on_without(programs: Programs) -> None:
    done, (child, parent) = run(
        programs,
        """
import resource
fastalloc.start(interval_bytes=1000)
kept = Blocks(100).allocate(10_000)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
def work():
    damaged = library.storm(OBJ, 7, 20_000) + library.storm(RAW, 8, 20_000)
    kept.release()
    with fastalloc.span("in vain"):
        blocks = Blocks(100).allocate(50_000)
    fastalloc.checkpoint("in vain")
    report(damaged=damaged, recording=fastalloc.status().recording)
    fastalloc.stop()
in_child(work)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
report(live=fastalloc.status().live_bytes)
fastalloc.stop()
""",
    )
    assert child["damaged"] == 0
    assert child["recording"] == ""
    assert parent["live"] >= 1_000_000
    (recording,) = done.recordings
    assert_consistent(fastalloc.read(recording))


def test_a_child_that_goes_over_to_another_program_leaves_nothing(programs: Programs) -> None:
    """If it does so within 50 ms. Of those that a busy machine held up longer nothing is said here."""
    done, (parent,) = run(
        programs,
        """
fastalloc.start()
quick = []
for _ in range(50):
    begin = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.execv("/bin/true", ["true"])
    os.waitpid(pid, 0)
    if time.monotonic() - begin < 0.05: quick.append(pid)
fastalloc.stop()
report(quick=quick)
""",
    )
    left = {int(path.stem.split("-")[1]) for path in done.recordings}
    if not parent["quick"]:
        pytest.skip("this machine takes more than 50 ms for each child that runs another program")
    assert left.isdisjoint(parent["quick"])


def test_a_child_gets_its_file_when_it_has_worked_for_a_while(programs: Programs) -> None:
    done, (child,) = run(
        programs,
        """
fastalloc.start(interval_bytes=10_000)
pid = os.fork()
if pid == 0:
    kept = []
    for _ in range(40):
        kept.append(Blocks(100).allocate(1000))
        time.sleep(0.005)
    report()
    os._exit(0)
os.waitpid(pid, 0)
fastalloc.stop()
""",
    )
    snapshot = done.snapshot(child["pid"])
    assert_consistent(snapshot)
    # 4 MB in samples of 10 kB: the standard error is 200 kB.
    assert 3_000_000 < snapshot.live["weight"][snapshot.live["size"] == 1000].sum() < 5_000_000


def test_an_earlier_librarys_fork_handler_may_free_what_is_sampled(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
assert library.watch_forks() == 0
fastalloc.start(interval_bytes=1)
blocks = (ctypes.c_void_p * 20)()
library.allocate_many(RAW, 64, 20, blocks)
library.free_in_children(blocks, 20)
ended = False
def allocate():
    while not ended: library_without_gil.churn(RAW, 64, 10_000)
threads = [threading.Thread(target=allocate) for _ in range(2)]
for thread in threads: thread.start()
hung = 0
for _ in range(40):
    child = os.fork()
    if not child: os._exit(0)
    until = time.monotonic() + 20
    while not os.waitpid(child, os.WNOHANG)[0]:
        if time.monotonic() > until:
            hung += 1
            os.kill(child, 9)
            os.waitpid(child, 0)
            break
        time.sleep(0.001)
    if hung: break
ended = True
for thread in threads: thread.join()
answer(hung=hung, pid=os.getpid())
"""
    )
    assert done.answer["hung"] == 0
    # The parent's: a child that lives long enough to begin one of its own may end before it is made.
    assert_consistent(done.snapshot(done.answer["pid"]))
