"""The watcher's thread beside the program: jobs, forks, starts and stops, the exit."""

from __future__ import annotations

import os
import sys
import time

import pytest

from tests.core.programs import Programs

PRELUDE = """
import os, sys, threading, time
import fastalloc
from fastalloc import background
from tests.core.inside import *

def watchers():
    names = []
    for tid in os.listdir("/proc/self/task"):
        try: names.append(open(f"/proc/self/task/{tid}/comm").read().strip())
        except OSError: pass
    return names.count("fastalloc")

def until(holds, seconds=10):
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end: time.sleep(0.005)
    return bool(holds())
"""


def test_jobs_run_in_their_turn_and_one_that_fails_harms_no_other(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
from fastalloc.breaker import Breaker
runs = []
def fail(): runs.append("fail"); raise ValueError("ours")
def quick(): runs.append("quick")
background.every(0.02, fail, "failing")
background.every(0.02, quick, "quick")
background.on("dump", lambda: runs.append("dump"))
time.sleep(0.1)
before = list(runs)
fastalloc.start()
ran = until(lambda: runs.count("quick") >= 12 and runs.count("fail") >= 10)
background.soon(lambda: runs.append(threading.get_ident()))
soon = until(lambda: any(type(run) is int for run in runs))
other = [run for run in runs if type(run) is int] != [threading.get_ident()]
background.cancel("quick")
time.sleep(0.05)
at_cancel = runs.count("quick")
time.sleep(0.1)
cancelled = runs.count("quick") == at_cancel
alive = [thread.name for thread in threading.enumerate()]
fastalloc.stop()
background.every(0.02, quick, "after")
time.sleep(0.1)
answer(before=before, ran=ran, soon=soon, other=other, cancelled=cancelled, alive=alive,
       failed=runs.count("fail"), state=Breaker("failing").state,
       after=runs.count("quick") - at_cancel, watchers=watchers())
"""
    )
    assert done.answer == {
        "before": [],
        "ran": True,
        "soon": True,
        "other": True,
        "cancelled": True,
        "alive": ["MainThread"],
        "failed": 10,
        "state": "open",
        "after": 0,
        "watchers": 0,
    }


def test_each_reason_calls_its_own_handlers(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
calls = []
for reason in background.REASONS:
    background.on(reason, lambda reason=reason: calls.append(reason))
for bit in range(len(background.REASONS)): background._work(1 << bit)
answer(calls=calls, reasons=background.REASONS)
"""
    )
    assert done.answer["calls"] == done.answer["reasons"]
    assert done.answer["reasons"][:3] == ["timer", "control", "dump"]


def test_no_job_runs_while_recording_is_switched_off_unless_it_asks_to(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
fastalloc.start()
runs = []
background.every(0.02, lambda: runs.append("plain"), "plain")
background.every(0.02, lambda: runs.append("always"), "always", while_disabled=True)
both = until(lambda: {"plain", "always"} <= set(runs))
fastalloc.disable()
time.sleep(0.05)
runs.clear()
still = until(lambda: runs.count("always") > 5)
off = runs.count("plain")
fastalloc.enable()
again = until(lambda: "plain" in runs)
answer(both=both, still=still, off=off, again=again)
"""
    )
    assert done.answer == {"both": True, "still": True, "off": 0, "again": True}


@pytest.mark.slow
def test_an_idle_watcher_wakes_at_most_once_a_second(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
fastalloc.start()
until(lambda: watchers() == 1)
(tid,) = (t for t in os.listdir("/proc/self/task")
          if open(f"/proc/self/task/{t}/comm").read() == "fastalloc\\n")
def sleeps():
    status = open(f"/proc/self/task/{tid}/status").read()
    return int(status.split("\\nvoluntary_ctxt_switches:")[1].split()[0])
time.sleep(0.2)
before = sleeps()
time.sleep(3.5)
answer(sleeps=sleeps() - before)
"""
    )
    assert 1 <= done.answer["sleeps"] <= 4


@pytest.mark.slow
def test_what_grows_without_an_allocation_is_on_the_timeline(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
import mmap
fastalloc.start()
memory = mmap.mmap(-1, 64 << 20)
time.sleep(1.3)
for i in range(0, len(memory), 4096): memory[i] = 1
time.sleep(2.5)
fastalloc.stop()
"""
    )
    rss = done.snapshot().timeline["rss_bytes"]
    assert rss.max() - rss.min() > 60 << 20


def test_forks_find_no_thread_of_ours_and_it_comes_back(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
import gc, logging, random, warnings  # logging runs Python in the parent after the fork
warnings.simplefilter("error", DeprecationWarning)
fastalloc.start()
background.every(0.05, lambda: None, "job")
for i in range(30):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            ran = []
            background.soon(lambda: ran.append(1))
            if i % 10 == 0:
                assert until(lambda: [gc.collect()] and ran, 5), "no watcher in the child"
                assert _restart not in gc.callbacks
            code = 0
        finally:
            sys.stderr.flush()
            os._exit(code)
    if i % 3: time.sleep(random.random() / 50)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code == 0, code
came_back = until(lambda: watchers() == 1)
started = time.monotonic()
fastalloc.stop()
answer(came_back=came_back, stop=time.monotonic() - started)
""".replace("_restart not", "background._restart_when_settled not"),
        env={"PYTHONWARNINGS": "error::DeprecationWarning", "PYTHONDEVMODE": "1"},
    )
    assert done.answer["came_back"] and done.answer["stop"] < 0.7
    assert "DeprecationWarning" not in done.stderr


def test_it_is_there_while_parent_and_child_only_wait_in_c(programs: Programs) -> None:
    done = programs.run(
        """
        import os, sys
        import fastalloc
        fastalloc.start()
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(write)
            os.read(read, 1)  # until the other one has looked, or is gone
            os._exit(0)
        looker = os.fork()
        if looker == 0:
            os.close(read)
            code = f'''
        import glob, os, time
        def seen(pid):
            return len(os.listdir(f"/proc/{{pid}}/task")) == 2
        end = time.monotonic() + 10
        def holds():
            recorded = glob.glob(os.environ["FASTALLOC_DIR"] + "/fastalloc-{child}-*.recording")
            return seen({os.getppid()}) and seen({child}) and recorded
        while not holds() and time.monotonic() < end: time.sleep(0.02)
        raise SystemExit(0 if holds() else 1)'''
            import textwrap
            os.set_inheritable(write, True)
            os.execv(sys.executable, [sys.executable, "-Sc", textwrap.dedent(code)])
        os.close(write)
        codes = dict([os.wait(), os.wait()])
        from tests.core.inside import answer
        answer(looker=codes[looker], child=codes[child])
        """,
    )
    assert done.answer == {"looker": 0, "child": 0}


@pytest.mark.parametrize("outlived", [False, True], ids=["alone", "another thread lives on"])
def test_a_child_whose_forking_thread_returns_ends_with_its_last_thread(
    programs: Programs, outlived: bool
) -> None:
    done = programs.run(
        PRELUDE
        + f"""
import signal
fastalloc.start()
background.every(0.01, lambda: None, "job")
said, say = os.pipe()
def live_on():
    time.sleep(0.05)
    gone = until(lambda: watchers() == 0)
    with fastalloc.span("late"): pass
    os.write(say, b"alone" if gone and watchers() == 0 else b"watched")
def fork_and_return():
    global child
    pid = os.fork()
    if pid:
        child = pid
        return
    assert until(lambda: watchers() == 1)
    if {outlived}: threading.Thread(target=live_on).start()
statuses = []
for _ in range(5):
    thread = threading.Thread(target=fork_and_return)
    thread.start()
    thread.join()
    ended = until(lambda: os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT))
    if not ended: os.kill(child, signal.SIGKILL)
    statuses.append(os.waitpid(child, 0)[1])
os.close(say)
heard = b"".join(iter(lambda: os.read(said, 100), b"")).decode()
answer(statuses=statuses, heard=heard, back=until(lambda: watchers() == 1))
"""
    )
    assert "Fatal Python error" not in done.stderr
    assert done.answer["statuses"] == [0] * 5
    assert done.answer["heard"] == "alone" * (5 * outlived)
    assert done.answer["back"]


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, to be alone under its limit")
def test_where_the_child_took_the_last_thread_the_program_runs_on(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
import gc, resource
def function(): pass
def seconds():
    begun = time.thread_time()
    for _ in range(2000): function()
    return time.thread_time() - begun
fastalloc.start()
assert until(lambda: watchers() == 1)
os.setuid(100_000 + os.getpid())  # nobody else is, at the same time
resource.setrlimit(resource.RLIMIT_NPROC, (2, 2))  # this thread's, and the watcher's
before = seconds()
reader, writer = os.pipe()
child = os.fork()
if not child:
    os.close(writer)
    os.read(reader, 1)
    os._exit(0)
time.sleep(0.01)
refused, after = watchers() == 0, seconds()
os.close(writer)
os.waitpid(child, 0)
def collected():
    gc.collect()
    return watchers() == 1
answer(refused=refused, slower=after / before, back=until(collected))
"""
    )
    assert done.answer["refused"] and done.answer["back"]
    assert done.answer["slower"] < 50, "the thread was asked for again and again"


def test_a_fork_waits_for_a_short_job(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
import warnings
warnings.simplefilter("error")
fastalloc.start()
busy = []
def job():
    busy.append(1); time.sleep(0.05); busy.clear()
children = 0
for _ in range(10):
    background.soon(job)
    until(lambda: busy)
    pid = os.fork()
    if pid == 0: os._exit(len(busy))
    children += os.waitpid(pid, 0)[1]
answer(children=children)
"""
    )
    assert done.answer == {"children": 0}


@pytest.mark.slow
def test_starts_and_stops_in_a_storm_leave_no_thread(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
background.every(0.01, lambda: time.sleep(0.002), "job")
go_on = True
def allocate():
    while go_on: [bytes(n) for n in range(1000)]
threads = [threading.Thread(target=allocate) for _ in range(2)]
for thread in threads: thread.start()
for i in range(20):
    fastalloc.start(interval_bytes=5000)
    if i % 3 == 0: background.soon(lambda: None)
    if i % 4 == 0: time.sleep(0.01)
    if i % 5 == 0:
        pid = os.fork()
        if pid == 0: os._exit(0)
        os.waitpid(pid, 0)
    fastalloc.stop()
go_on = False
for thread in threads: thread.join()
gone = until(lambda: watchers() == 0)
answer(gone=gone)
"""
    )
    assert done.answer == {"gone": True}


@pytest.mark.parametrize("ending", ["pass", "sys.exit(3)", "raise SystemExit(3)", "os._exit(3)"])
def test_the_exit_waits_for_no_busy_job(programs: Programs, ending: str) -> None:
    process = programs.start(
        PRELUDE
        + f"""
fastalloc.start()
started = []
def job():
    started.append(1); time.sleep(60)
background.soon(job)
assert until(lambda: started)
print("ready", flush=True)
{ending}
"""
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    started = time.monotonic()
    _, errors = process.communicate(timeout=30)
    assert process.returncode == (0 if ending == "pass" else 3), errors
    assert time.monotonic() - started < 2  # half a second of it for the job
    assert "Error" not in errors and "Fatal" not in errors


def test_a_job_may_stop_start_and_fork(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
import warnings
warnings.simplefilter("ignore")
fastalloc.start()
seen = []
def restart():
    fastalloc.stop(); fastalloc.start(); seen.append("restarted")
background.soon(restart)
first = until(lambda: "restarted" in seen)
def fork():
    pid = os.fork()
    if pid == 0: os._exit(5)
    seen.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
background.soon(fork)
second = until(lambda: 5 in seen)
back = until(lambda: watchers() == 1)
fastalloc.stop()
answer(first=first, second=second, back=back, left=until(lambda: watchers() == 0))
"""
    )
    assert done.answer == {"first": True, "second": True, "back": True, "left": True}


@pytest.mark.skipif(sys.version_info < (3, 12), reason="older Pythons do not warn")
def test_a_pool_of_forked_workers_warns_of_no_thread_of_ours(programs: Programs) -> None:
    done = programs.run(
        """
        import subprocess, sys
        import fastalloc
        fastalloc.start()
        from concurrent.futures import ProcessPoolExecutor
        import multiprocessing
        context = multiprocessing.get_context("fork")
        processes = [context.Process(target=sum, args=([1],)) for _ in range(8)]
        for process in processes: process.start()
        for process in processes: process.join()
        subprocess.run([sys.executable, "-c", "pass"], preexec_fn=lambda: None, check=True)
        """,
        env={"PYTHONWARNINGS": "error::DeprecationWarning", "PYTHONDEVMODE": "1"},
    )
    assert "multi-threaded" not in done.stderr
