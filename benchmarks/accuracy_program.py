"""Holds known bytes by line, and prints what a profiler says of these lines: `... PROFILER SCRATCH RUN`.

One JSON object: truth and found, bytes by line number of `hold`. Each profiler is read by its own reader; of those
that upload, what they upload is read: ddtrace writes it into a file, Pyroscope sends it to a server of ours.
"""

from __future__ import annotations

import glob
import json
import os
import queue
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from benchmarks.profilers import FRAMES, INTERVAL_BYTES, PROFILERS, WITHOUT_LIVE_HEAP, kept

DRAWS_OF_A_RUN = 400
"""More samples than `hold` gives."""


def draw(run: int) -> None:
    """Use up random numbers, in each run others: ddtrace's and Pyroscope's generator is seeded with a constant, so that
    all runs would give the same answer. Nothing of it is kept."""
    for _ in range(run * DRAWS_OF_A_RUN):
        bytes(2 * INTERVAL_BYTES)


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


def _ddtrace(scratch: str) -> dict[int, float]:
    from ddtrace.internal.datadog.profiling import ddup
    from ddtrace.profiling.collector.memalloc import MemoryCollector

    from benchmarks import pprof

    MemoryCollector().snapshot()  # of the one that runs: there is one in a process
    ddup.upload()
    (written,) = glob.glob(scratch + "/ddtrace.*.pprof")
    with open(written, "rb") as file:
        found = pprof.by_line(file.read(), "heap-space", "accuracy_program.py")
    if found is None:
        raise RuntimeError("ddtrace's profile has no live heap")
    return found


def _write_uploads(scratch: str) -> None:
    """Have ddtrace's uploads written into a file."""
    from ddtrace.internal.datadog.profiling import ddup

    ddup.config(service="accuracy", max_nframes=FRAMES, output_filename=scratch + "/ddtrace")
    ddup.start()


uploads: queue.SimpleQueue[bytes] = queue.SimpleQueue()
UPLOAD_SECONDS = 60


class _Uploads(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
        uploads.put(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _take_uploads(scratch: str) -> None:
    """Have Pyroscope's uploads sent to a server of ours."""
    server = HTTPServer(("127.0.0.1", 0), _Uploads)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ["PYROSCOPE_SERVER_ADDRESS"] = f"http://127.0.0.1:{server.server_address[1]}"


def _pyroscope(scratch: str) -> dict[int, float]:
    import pyroscope

    from benchmarks import pprof

    while not uploads.empty():  # of the time before all was held
        uploads.get()
    pyroscope.shutdown()  # sends what there is, of the heap as it is now
    while True:
        for profile in pprof.pushed(uploads.get(timeout=UPLOAD_SECONDS)):
            found = pprof.by_line(profile, "inuse_space", "accuracy_program.py")
            if found is not None:
                return found


PREPARE = {"ddtrace": _write_uploads, "ddtrace_1m": _write_uploads, "pyroscope": _take_uploads}
"""What is done before the profiler starts, so that it can be read."""
READERS = {
    "light": _fastalloc,
    "native": _fastalloc,
    "aggressive": _fastalloc,
    "tracemalloc": _tracemalloc,
    "tracemalloc_25": _tracemalloc,
    "ddtrace": _ddtrace,
    "ddtrace_1m": _ddtrace,
    "pyroscope": _pyroscope,
    "memray": _memray,
    "memray_aggregated": _memray,
    "memray_python": _memray,
}


def main(profiler: str, scratch: str, run: int) -> None:
    """Print the answer."""
    if profiler in WITHOUT_LIVE_HEAP:
        print(json.dumps({"unreadable": WITHOUT_LIVE_HEAP[profiler]}))
        return
    if profiler in PREPARE:
        PREPARE[profiler](scratch)
    PROFILERS[profiler].start(scratch)
    draw(run)
    held = hold()
    found = READERS[profiler](scratch)
    truth = truth_of(held)
    print(json.dumps({"truth": truth, "found": {line: found.get(line, 0.0) for line in truth}}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
