"""How cost grows: what runs in the measured process. `python -m benchmarks.growth_probes AXIS VALUE SCRATCH`.

Each probe measures with and without recording in turns, in this one process, and prints one JSON
object of numbers, or {"skipped": why}.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Answer = dict[str, float] | dict[str, str]

ROUNDS = 9
NEVER = 1 << 40
MIB = 1 << 20
FUNCTIONS = 47
MARGIN_MIB = 512
"""What is left to the machine beside a live heap."""


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def _fastalloc(scratch: str, mode: str = "light", **options: object) -> Any:
    import fastalloc

    fastalloc.start(mode, dir=scratch + "/recordings", **options)
    assert fastalloc.status().active, fastalloc.status().reason
    return fastalloc


def _interval(fastalloc: Any, interval_bytes: int) -> None:
    fastalloc.configure({"interval_bytes": interval_bytes})
    bytes(2 * MIB)  # the present draw ends, and the next is made under the new interval


def _cpu_ns(function: Callable[[], object]) -> float:
    began = time.process_time_ns()
    function()
    return time.process_time_ns() - began


def threads(value: int, scratch: str) -> Answer:
    """`value` threads that allocate and free all the time: CPU of a pair, over that without."""
    fastalloc = _fastalloc(scratch)
    pairs = max(2_000_000 // value, 20_000)
    barrier = threading.Barrier(value + 1)
    done = threading.Event()

    def work() -> None:
        mine = range(pairs)
        while True:
            barrier.wait()
            if done.is_set():
                return
            for _ in mine:
                bytes(40)
            barrier.wait()

    running = [threading.Thread(target=work) for _ in range(value)]
    for thread in running:
        thread.start()

    def turn() -> None:
        barrier.wait()
        barrier.wait()

    found: dict[bool, list[float]] = {True: [], False: []}
    for round_ in range(2 * ROUNDS):
        recorded = round_ % 2 == 0
        fastalloc.enable() if recorded else fastalloc.disable()
        found[recorded].append(_cpu_ns(turn))
    done.set()
    barrier.wait()
    for thread in running:
        thread.join()
    return {"ratio": _median([a / b for a, b in zip(found[True], found[False], strict=True)])}


def depth(value: int, scratch: str) -> Answer:
    """Samples below `value` frames: ns each, with the free that takes them out."""
    fastalloc = _fastalloc(scratch, "targeted", interval_bytes=NEVER, max_frames=256)
    times = range(20_000)

    def churn() -> None:
        for _ in times:
            bytes(100)

    def below(frames: int) -> float:
        return below(frames - 1) if frames > 1 else _cpu_ns(churn) / len(times)

    costs = []
    for _ in range(ROUNDS):
        _interval(fastalloc, NEVER)
        rare = below(value)
        _interval(fastalloc, 1)
        costs.append(below(value) - rare)
    return {"ns": _median(costs)}


def _available_mib() -> int:
    with open("/proc/meminfo") as meminfo:
        return next(int(line.split()[1]) for line in meminfo if line.startswith("MemAvail")) >> 10


def live(value: int, scratch: str) -> Answer:
    """`value` MiB held in blocks of 64 KiB: ns of a pair that goes to the C library, and ms of a
    snapshot."""
    available = _available_mib()
    if available < value + MARGIN_MIB:
        return {"skipped": f"{available:,} MiB of memory were available"}
    fastalloc = _fastalloc(scratch)
    held: list[bytearray] = []

    def hold() -> None:
        held.clear()  # first, or there would be two of them
        held.extend(bytearray(64 << 10) for _ in range(16 * value))

    hold()
    times = range(100_000)

    def churn() -> None:
        for _ in times:
            bytes(1000)

    found: dict[bool, list[float]] = {True: [], False: []}
    for round_ in range(2 * ROUNDS):
        recorded = round_ % 2 == 0
        fastalloc.enable() if recorded else fastalloc.disable()
        if round_:
            hold()  # known again, or unknown: malloc has seen the same before either
        found[recorded].append(_cpu_ns(churn) / len(times))
    fastalloc.enable()
    hold()
    fastalloc.snapshot()  # imports numpy
    began = time.perf_counter()
    samples = fastalloc.snapshot().header["live_samples"]
    took = time.perf_counter() - began
    return {
        "added_ns": _median(found[True]) - _median(found[False]),
        "snapshot_ms": took * 1e3,
        "samples": float(samples),
    }


def _stacks(count: int) -> Callable[[list[bytes | None]], None]:
    """What puts a block of each of `count` distinct stacks into a list of so many places."""
    lines = [
        f"def f{n}(rest):\n return g[rest[0]](rest[1:]) if rest else bytes(100)"
        for n in range(FUNCTIONS)
    ]
    space: dict[str, Any] = {}
    exec(compile("\n".join(lines), "generated.py", "exec"), space)
    functions = space["g"] = [space[f"f{n}"] for n in range(FUNCTIONS)]

    def run(held: list[bytes | None]) -> None:
        for number in range(count):
            outer, inner = divmod(number // FUNCTIONS, FUNCTIONS)
            held[number] = functions[number % FUNCTIONS]((inner, outer % FUNCTIONS))

    return run


def sites(value: int, scratch: str) -> Answer:
    """`value` distinct stacks, each of a block that is held: ns each, what the recording takes, how many stacks
    it has, how often tables were swept for room, and how many samples lost their stack."""
    fastalloc = _fastalloc(scratch, "targeted", interval_bytes=NEVER)
    run = _stacks(value)
    unsampled: list[bytes | None] = [None] * value
    held: list[bytes | None] = [None] * value
    rare = _cpu_ns(lambda: run(unsampled))
    _interval(fastalloc, 1)
    often = _cpu_ns(lambda: run(held))
    _interval(fastalloc, NEVER)
    snapshot = fastalloc.snapshot()
    lost = snapshot.losses["sites"] + snapshot.losses["nodes"] + snapshot.losses["live"]
    return {
        "ns": (often - rare) / value,
        "resident_kib": _resident_kib(fastalloc.status().recording),
        "stacks": float(len(set(snapshot.live["site"].tolist()))),
        "swept": float(snapshot.header["sweeps"]),
        "lost": float(lost),
    }


def spans(value: int, scratch: str) -> Answer:
    """`value` spans a second, for two seconds: percent of one core."""
    fastalloc = _fastalloc(scratch)
    span = fastalloc.span

    def second(work: Callable[[int], None]) -> float:
        began, cpu = time.monotonic(), time.process_time()
        for tick in range(50):
            work(value // 50)
            time.sleep(max(0.0, began + (tick + 1) / 50 - time.monotonic()))
        return (time.process_time() - cpu) / (time.monotonic() - began) * 100

    def with_spans(count: int) -> None:
        for _ in range(count):
            with span("GET /"):
                pass

    def without(count: int) -> None:
        for _ in range(count):
            with contextlib.nullcontext():
                pass

    costs = [second(with_spans) - second(without) for _ in range(3)]
    return {"percent": _median(costs)}


def hours(value: int, scratch: str) -> Answer:
    """A service of `value` hours in some seconds (the clock is preloaded, see clock.c): what the recording
    takes, and how far back its timelines go."""
    fastalloc = _fastalloc(scratch)
    held: list[bytes] = []
    until = time.perf_counter() + 4
    while time.perf_counter() < until:
        with fastalloc.span(f"GET /{len(held) % 7}/"):
            held.append(bytes(100_000))
        del held[:-500]
        time.sleep(0.001)
    snapshot = fastalloc.snapshot()
    ticks = snapshot.timeline["time_ns"]
    return {
        "hours": snapshot.duration_seconds / 3600,
        "timeline_hours": float(ticks.max() - ticks.min()) / 3.6e12 if len(ticks) else 0.0,
        "resident_kib": _resident_kib(fastalloc.status().recording),
    }


def reading(value: int, scratch: str) -> Answer:
    """A recording of `value` live samples, each of another stack: ms to read it, for a table of it, and to export it
    for memray."""
    fastalloc = _fastalloc(scratch, "targeted", scale=max(1, value // 8192))
    run = _stacks(value)
    held: list[bytes | None] = [None] * value
    run(held)
    fastalloc.stop()
    path = fastalloc.status().recording
    from fastalloc.export import export_memray

    fastalloc.read(path)  # imports numpy
    began = time.perf_counter()
    snapshot = fastalloc.read(path)
    read = time.perf_counter()
    rows = snapshot.top()
    topped = time.perf_counter()
    export_memray(snapshot, scratch + "/exported.bin")
    exported = time.perf_counter()
    assert rows and held
    return {
        "read_ms": (read - began) * 1e3,
        "top_ms": (topped - read) * 1e3,
        "export_ms": (exported - topped) * 1e3,
        "samples": float(snapshot.header["live_samples"]),
    }


def _resident_kib(recording: str) -> float:
    name, found = os.path.basename(recording), 0
    inside = False
    with open("/proc/self/smaps") as smaps:
        for line in smaps:
            if "-" in line.split()[0] and not line.split()[0].endswith(":"):
                inside = name in line
            elif inside and line.startswith("Rss:"):
                found += int(line.split()[1])
    return float(found)


AXES = (threads, depth, live, sites, spans, hours, reading)

if __name__ == "__main__":
    axes = {each.__name__: each for each in AXES}
    print(json.dumps(axes[sys.argv[1]](int(sys.argv[2]), sys.argv[3])))
