"""One measured process: one profiler, one workload. `python -m benchmarks.worker PROFILER WORKLOAD`.

Says {"ready": ...} when warm. Then, for each line with a number on stdin, does the work that often
and answers with the CPU seconds it took. At the end of stdin it says how much memory it used.
"""

from __future__ import annotations

import gc
import importlib
import json
import resource
import sys
import time

from benchmarks.lot import kept_blocks, make_room, move
from benchmarks.profilers import PROFILERS, kept

TYPE_CHECKING = False
if TYPE_CHECKING:
    from benchmarks.workloads import Work

WARM_UP_SECONDS = 0.15
SERVICES_HAVE = (
    "asyncio",
    "dataclasses",
    "inspect",
    "logging",
    "shutil",
    "tempfile",
    "weakref",
    "zipfile",
)
"""Of the standard library, and with them what they import: a service has them before its work, and a profiler may be what
brings some. Without a profiler and on a build without PGO, numpy's workload takes 1.2 % longer after imports like these,
why is not known. So all processes have them."""


def rss_bytes() -> int:
    """Resident memory now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def peak_rss_bytes() -> int:
    """The most resident memory ever. (ru_maxrss would count the process that started this one.)"""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))


def measure(work: Work, loops: int) -> float:
    """CPU seconds of `loops` times the work. Once more before, for the caches: others ran meanwhile. And all garbage is
    collected before: a full collection takes as long as some loops, and would be in one round and not in the next."""
    gc.collect()
    work()
    started = time.process_time()
    for _ in range(loops):
        work()
    return time.process_time() - started


def main(profiler: str, workload: str, scratch: str, fixed_loops: int | None = None) -> None:
    """Serve, or with `fixed_loops` (an instruction count) do the work that often and leave."""
    before = rss_bytes()
    PROFILERS[profiler].start(scratch)
    started = rss_bytes()
    if workload == "nothing":  # the start is all that is wanted
        return
    for name in SERVICES_HAVE:
        importlib.import_module(name)
    from benchmarks.workloads import WORKLOADS

    work = PROFILERS[profiler].around(WORKLOADS[workload]())
    if fixed_loops is not None:
        for _ in range(2 + fixed_loops):
            work()
        return
    room = make_room()
    until = time.process_time() + WARM_UP_SECONDS
    while time.process_time() < until:
        work()
    _say({"ready": True, "start_rss_bytes": started - before})
    for line in sys.stdin:
        move()
        _say({"seconds": measure(work, int(line))})
    _say({"peak_rss_bytes": peak_rss_bytes() - sum(map(len, kept_blocks + room))})
    for tracker in kept:  # closes its file, whose size is told
        tracker.__exit__(None, None, None)


def _say(answer: dict[str, object]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    profiler, workload, scratch, *fixed_loops = sys.argv[1:]
    main(profiler, workload, scratch, int(fixed_loops[0]) if fixed_loops else None)
