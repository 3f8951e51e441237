"""Holds known bytes by line, and prints what a profiler says of these lines: `... PROFILER SCRATCH`.

One JSON object: truth and found, bytes by line number of `hold`. Each profiler is read by its own reader.
"""

from __future__ import annotations

import glob
import json
import sys

from benchmarks.profilers import PROFILERS, kept


def hold() -> dict[int, list[object]]:
    """Allocate; gives what is held, by the line that allocated it. Each line: objects and their list."""
    first = hold.__code__.co_firstlineno
    small = [bytes(100 + n % 7) for n in range(60_000)]
    lists = [[None] for _ in range(50_000)]
    medium = [bytes(900) for _ in range(12_000)]
    texts = ["x" * (50 + n % 7) for n in range(50_000)]
    large = [bytearray(70_000) for _ in range(150)]
    rare = [bytes(20_000) for _ in range(40)]
    for _ in range(40):  # allocated and freed again: it must not show
        [bytes(500) for _ in range(5_000)]
    held = (small, lists, medium, texts, large, rare)
    return {first + 3 + n: [each, *each] for n, each in enumerate(held)}


def truth_of(held: dict[int, list[object]]) -> dict[int, int]:
    """Bytes by line: objects, headers included; buffers are in getsizeof. Lists are over-allocated as
    they grow, which getsizeof tells."""
    return {line: sum(sys.getsizeof(each) for each in objects) for line, objects in held.items()}


def _fastalloc(scratch: str) -> dict[int, float]:
    import fastalloc

    rows = fastalloc.snapshot().top(group="line", limit=1000)
    return {
        int(row.key.rpartition(":")[2]): float(row.live_bytes)
        for row in rows
        if row.key.rpartition(":")[0].endswith("accuracy_program.py")
    }


def _tracemalloc(scratch: str) -> dict[int, float]:
    import tracemalloc

    statistics = tracemalloc.take_snapshot().statistics("lineno")
    return {
        each.traceback[0].lineno: float(each.size)
        for each in statistics
        if each.traceback[0].filename.endswith("accuracy_program.py")
    }


def _memray(scratch: str) -> dict[int, float]:
    import memray

    kept[0].__exit__(None, None, None)
    found: dict[int, float] = {}
    reader = memray.FileReader(glob.glob(scratch + "/memray-*.bin")[0])
    for record in reader.get_leaked_allocation_records(merge_threads=True):
        for _, path, line in record.stack_trace():
            if path.endswith("accuracy_program.py"):
                found[line] = found.get(line, 0.0) + record.size
                break
    return found


READERS = {
    "light": _fastalloc,
    "native": _fastalloc,
    "aggressive": _fastalloc,
    "tracemalloc": _tracemalloc,
    "tracemalloc_25": _tracemalloc,
    "memray": _memray,
    "memray_aggregated": _memray,
    "memray_python": _memray,
}
UPLOADS = "it uploads; its profile has no reader in the package"
UNREADABLE = {
    "ddtrace": UPLOADS,
    "ddtrace_1m": UPLOADS,
    "pyroscope": UPLOADS,
    "scalene": "its report has averages and peaks, not the live heap",
    "fil": "its report has the peak, not the live heap",
}


def main(profiler: str, scratch: str) -> None:
    """Print the answer."""
    if profiler in UNREADABLE:
        print(json.dumps({"unreadable": UNREADABLE[profiler]}))
        return
    PROFILERS[profiler].start(scratch)
    held = hold()
    found = READERS[profiler](scratch)
    truth = truth_of(held)
    print(json.dumps({"truth": truth, "found": {line: found.get(line, 0.0) for line in truth}}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
