"""The wall clock jumps, or time passes between two readings: nothing of ours may hang, fail or tell times that cannot be."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np

import fastalloc
from tests.core.programs import Programs

JUMPING = r"""
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static unsigned state = 1;
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    if (clock != CLOCK_REALTIME) return result;
    state = state * 1103515245u + 12345u;
    now->tv_sec += (long)(state >> 8) % 63072000 - 31536000; /* up to a year, to and fro */
    return result;
}
"""

# The process that sets `clock_halts` to n is off the processor, as on a busy machine, before its nth reading from then on.
HALTING = r"""
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_halts;

int clock_gettime(clockid_t clock, struct timespec *now)
{
    struct timespec nap = {.tv_nsec = 8000000};
    if (clock == CLOCK_MONOTONIC && clock_halts && --clock_halts == 0) syscall(SYS_nanosleep, &nap, NULL);
    return (int)syscall(SYS_clock_gettime, clock, now);
}
"""


def compiled(code: str, folder: Path) -> str:
    """The library that stands before the C library."""
    source, library = folder / "clock.c", folder / "clock.so"
    source.write_text(code)
    compiler = shutil.which("cc") or "gcc"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return str(library)


def test_a_jumping_wall_clock_changes_no_answer_and_no_duration(
    programs: Programs, tmp_path: Path
) -> None:
    done = programs.run(
        """
import os, time
import fastalloc
from tests.core.inside import *

assert len({int(time.time()) // 86400 for _ in range(100)}) > 50, "the clock does not jump"
fastalloc.start(interval_bytes=10_000, memory_limit_bytes=400 << 20, guard_cooldown_seconds=1)
tripped = []
fastalloc.guard.on_trip(tripped.append)
held = []
for n in range(20):
    with fastalloc.span(f"span {n}"):
        held.append(bytearray(1 << 20))
        fastalloc.checkpoint("made")
path = fastalloc.write_dump()
while not tripped:
    held.append(bytearray(4 << 20))
    time.sleep(0.01)
pid = os.fork()
if pid == 0:
    with fastalloc.span("child"): os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
fastalloc.stop()
answer(path=path, total=len(held), guarded=tripped[0].dump)
""",
        env={"LD_PRELOAD": compiled(JUMPING, tmp_path)},
    )
    assert 20 < done.answer["total"] < 120
    for snapshot in (done.snapshot(), fastalloc.read(done.answer["path"])):
        assert 0 < snapshot.duration_seconds < 60
        for times in (snapshot.timeline["time_ns"], snapshot.checkpoints["time_ns"]):
            assert (np.diff(times.astype(np.int64)) >= 0).all() and (times < 60e9).all()
    assert fastalloc.read(done.answer["guarded"]).header["guard_trips"] == 1


def test_a_child_has_its_watcher_wherever_the_machine_lets_it_wait(
    programs: Programs, tmp_path: Path
) -> None:
    done = programs.run(
        """
import ctypes, gc, os, time
import fastalloc
from tests.core.inside import *

halts = ctypes.c_int.in_dll(ctypes.CDLL(None), "clock_halts")
gc.disable()  # a collection would bring the watcher too, if nothing else did
fastalloc.start()
def is_watched():
    names = [open(f"/proc/self/task/{tid}/comm").read() for tid in os.listdir("/proc/self/task")]
    return "fastalloc\\n" in names
missing = []
for reading in range(1, 41):
    halts.value = reading
    child = os.fork()
    if not child:
        for _ in range(2000):
            if is_watched(): os._exit(0)
            time.sleep(0.001)
        os._exit(1)
    halts.value = 0
    if os.waitpid(child, 0)[1]: missing.append(reading)
answer(missing=missing)
""",
        env={"LD_PRELOAD": compiled(HALTING, tmp_path)},
    )
    assert done.answer == {"missing": []}
