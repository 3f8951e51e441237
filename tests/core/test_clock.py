"""The wall clock jumps: nothing of ours may hang, fail or tell times that cannot be."""

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


def test_a_jumping_wall_clock_changes_no_answer_and_no_duration(
    programs: Programs, tmp_path: Path
) -> None:
    source, library = tmp_path / "jumping.c", tmp_path / "jumping.so"
    source.write_text(JUMPING)
    compiler = shutil.which("cc") or "gcc"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
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
        env={"LD_PRELOAD": str(library)},
    )
    assert 20 < done.answer["total"] < 120
    for snapshot in (done.snapshot(), fastalloc.read(done.answer["path"])):
        assert 0 < snapshot.duration_seconds < 60
        for times in (snapshot.timeline["time_ns"], snapshot.checkpoints["time_ns"]):
            assert (np.diff(times.astype(np.int64)) >= 0).all() and (times < 60e9).all()
    assert fastalloc.read(done.answer["guarded"]).header["guard_trips"] == 1
