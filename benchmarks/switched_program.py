"""One process of `switched`: `python -m benchmarks.switched_program WORKLOAD NATIVE ROUNDS`.

Does the work in turns, one for each of STATES in every round, in an order of its own, and prints the CPU seconds of each
turn and what the recorder saw of it. All on one CPU, drawn by lot.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import time

from benchmarks.lot import VARIABLE, make_room, move

TURN_SECONDS = 0.02
WARM_UP_SECONDS = 0.3
NEVER = 1 << 40
"""Bytes between samples, where none is wanted."""

STATES = {
    "off": ("disabled", NEVER),
    "again": ("disabled", NEVER),
    "counting": ("light", NEVER),
    "recording": ("light", 512 * 1024),
}
"""By name: the mode, and the bytes between samples."""


def main(workload: str, native: bool, rounds: int) -> None:
    """Measure, and print."""
    import fastalloc
    from benchmarks.workloads import WORKLOADS
    from fastalloc import _core

    order = random.Random(os.environ.get(VARIABLE, workload))
    os.sched_setaffinity(0, {order.choice(sorted(os.sched_getaffinity(0)))})
    with tempfile.TemporaryDirectory() as scratch:
        fastalloc.start("light", native=native, overhead_percent=0, dir=scratch)
        if native and not fastalloc.status().native:
            raise SystemExit(f"no native hooks: {fastalloc.status().native_reason}")
        work = WORKLOADS[workload]()
        room = make_room()
        started, loops = time.process_time(), 0
        while time.process_time() < started + WARM_UP_SECONDS:
            work()
            loops += 1
        loops = max(1, round(loops * TURN_SECONDS / WARM_UP_SECONDS))
        seconds: dict[str, list[float]] = {name: [] for name in STATES}
        counts, samples = dict.fromkeys(STATES, 0), dict.fromkeys(STATES, 0)
        for _ in range(rounds):
            move()
            for name in order.sample(list(STATES), len(STATES)):
                _core.set_mode(*STATES[name])
                work()  # a thread takes up another interval within 1 MiB
                work()
                counted, sampled = _core.thread_totals()[0], fastalloc.status().samples
                begun = time.process_time()
                for _ in range(loops):
                    work()
                seconds[name].append(time.process_time() - begun)
                counts[name] += _core.thread_totals()[0] - counted
                samples[name] += fastalloc.status().samples - sampled
        del room
        fastalloc.stop()
    print(json.dumps({"seconds": seconds, "counts": counts, "samples": samples}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] == "True", int(sys.argv[3]))
