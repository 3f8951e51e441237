"""How far a program gets past the line before it is noticed: the guard beside a thread that polls.

Each scenario runs in a process of its own, with a limit some 250 MiB above what it uses at first, and goes on
to twice that. Told is how far usage was beyond 90 % of the limit (negative: before it) when

    stamp    the guard's event was in the recording, with the stack
    stop     no sample was taken any more: the stamp, and the bytes of all samples that are younger
    dump     the dump was complete, and the callbacks ran
    poller   a Python thread that reads statm every 10 ms had noticed, and set a flag that stops it

Bytes, not times: they depend little on what else the machine does. Still, the median of some runs is told, and the worst.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from statistics import median

MIB = 1 << 20
SCENARIOS = {
    "64 KiB blocks, Python": "kept = [b'x' * 65536 for _ in range(8000)]",
    "small objects, Python": "kept = [[i] for i in range(5_000_000)]",
    "one C call, list(range(N))": "kept = list(range(1 << 40, (1 << 40) + 14_000_000))",
    "one bytearray of 300 MiB": "kept = bytearray(300 * MIB); touch(kept)",
    "8 threads, 64 KiB blocks": "kept = in_threads(8, 1000)",
    "touched later (mmap)": "import mmap; kept = mmap.mmap(-1, 500 * MIB); touch(kept)",
}
PROGRAM = """
import json, os, sys, threading, time
MIB = 1 << 20
statm = os.open("/proc/self/statm", os.O_RDONLY)
def rss(): return int(os.pread(statm, 100, 0).split()[1]) * 4096
def touch(memory):
    step = b"x" * MIB
    for at in range(0, len(memory), MIB): memory[at : at + MIB] = step
def in_threads(count, blocks):
    kept = []
    def work(): kept.extend([b"x" * 65536 for _ in range(blocks)])
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return kept
seen = {}
limit = rss() + 250 * MIB
line = limit // 100 * 90
if sys.argv[1] == "guard":
    import fastalloc
    from fastalloc import dumps, guard
    guard.on_trip(lambda trip: seen.update(dump=rss(), stamp=trip.usage_bytes))
    fastalloc.start(memory_limit_bytes=limit, guard_rearm_percent=0)
    time.sleep(dumps.PREPARE_SECONDS + 0.5)
else:
    def poll():
        while not seen:
            if (now := rss()) >= line: seen.update(poller=now)
            time.sleep(0.01)
    threading.Thread(target=poll, daemon=True).start()
    time.sleep(0.05)
exec(sys.argv[2])
end = time.monotonic() + 3
while not seen and time.monotonic() < end: time.sleep(0.01)
if "stamp" in seen:
    snapshot = fastalloc.snapshot()
    younger = snapshot.live[snapshot.live["time_ns"] > snapshot.header["guard_ns"]]
    seen["stop"] = seen["stamp"] + int(younger["weight"].sum())
print(json.dumps({name: int(value - line) for name, value in seen.items()}))
"""


def measure(who: str, work: str, folder: str) -> dict[str, int]:
    """Bytes beyond the line, by what was noticed; empty if nothing was."""
    environment = {**os.environ, "FASTALLOC_DIR": folder}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, who, work],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    found: dict[str, int] = json.loads(done.stdout)
    return found


def main(arguments: list[str]) -> int:
    """Run all scenarios and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks guard", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="of each scenario (default: 5)")
    parser.add_argument("--json", action="store_true", help="all values, in bytes")
    args = parser.parse_args(arguments)
    results: dict[str, dict[str, list[int]]] = {}
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        for name, work in SCENARIOS.items():
            values = results.setdefault(name, {})
            for _ in range(args.runs):
                for who in ("guard", "poller"):
                    for what, beyond in measure(who, work, f"{folder}/recordings").items():
                        values.setdefault(what, []).append(beyond)
    if args.json:
        print(json.dumps(results, indent=1))
        return 0
    print(f"{'MiB beyond the line, median (worst)':36}" + "".join(f"{n:>18}" for n in NOTICED))
    for name, values in results.items():
        cells = [_cell(values.get(what, [])) for what in NOTICED]
        print(f"{name:36}" + "".join(f"{cell:>18}" for cell in cells))
    return 0


NOTICED = ("stamp", "stop", "dump", "poller")


def _cell(values: list[int]) -> str:
    if not values:
        return "never"
    return f"{median(values) / MIB:.1f} ({max(values) / MIB:.1f})"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
