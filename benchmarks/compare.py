"""CPU time and memory of each profiler beside none, in one interleaved run.

For each workload, a launch starts one process per profiler; then they take turns, round by round
(A B C A B C ...), each doing the same work while the others wait. A ratio is made of two rounds
that lie side by side, so what the machine does to both cancels out. Each launch has new processes,
addresses and a new hash seed, the same for all profilers. Each lane is one CPU, with a launch of its own.
Each launch is a result of its own on disk: `--resume` goes on where a run ended.
"""

from __future__ import annotations

import argparse
import os
import queue
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from benchmarks import comparison, results
from benchmarks.interpreters import Interpreter, prepare
from benchmarks.profilers import PROFILERS
from benchmarks.ratios import compare as ratio_of
from benchmarks.turns import WorkerError, launch
from benchmarks.workloads import WORKLOADS


def available(interpreter: Interpreter, wanted: Sequence[str]) -> list[str]:
    """The profilers that this interpreter has; says which are missing."""
    found = []
    for name in wanted:
        package = PROFILERS[name].package
        if not package or package in interpreter.packages:
            found.append(name)
        else:
            print(f"{interpreter.label}: no {package}, so no row for it", file=sys.stderr)
    return found


def run(
    interpreters: Sequence[Interpreter],
    profilers: Sequence[str],
    workloads: Sequence[str],
    *,
    launches: int,
    rounds: int,
    round_seconds: float,
    minutes: float,
    cpus: Sequence[int],
    resume: bool = False,
    kind: str = "compare",
) -> None:
    """Measure, one launch of one workload per CPU at a time, and save each.

    The time of a launch is its part of what is left of `minutes` (0: as long as `rounds` take). What
    goes beyond the first launch is left out when time is up. Slow profilers take part in the first.
    """
    wanted = ["none", *(name for name in profilers if name != "none")]
    fast = [name for name in wanted if not PROFILERS[name].slow]
    if not resume:
        for interpreter in interpreters:
            results.forget(kind, interpreter)
    tasks: queue.SimpleQueue[tuple[Interpreter, str, int]] = queue.SimpleQueue()
    for number in range(launches):
        for workload in workloads:
            for interpreter in interpreters:
                if not (resume and results.exists(kind, interpreter, f"{workload}-{number}")):
                    tasks.put((interpreter, workload, number))
    began, end = time.monotonic(), time.monotonic() + 60 * minutes
    has = {interpreter.tag: set(available(interpreter, wanted)) for interpreter in interpreters}

    def serve(cpu: int) -> None:
        while True:
            try:
                interpreter, workload, number = tasks.get_nowait()
            except queue.Empty:
                return
            now = time.monotonic()
            if minutes and number and now > end:
                continue
            until = now + max(0.0, end - now) * len(cpus) / (tasks.qsize() + len(cpus))
            names = [n for n in (fast if number else wanted) if n in has[interpreter.tag]]
            try:
                found = launch(
                    interpreter,
                    names,
                    workload,
                    number,
                    until=until if minutes else float("inf"),
                    rounds=rounds,
                    round_seconds=round_seconds,
                    cpu=cpu,
                )
            except WorkerError as error:
                found = {"workload": workload, "launch": number, "failed": {"none": str(error)}}
            results.save(kind, interpreter, found, f"{workload}-{number}")
            _tell(interpreter, found, time.monotonic() - began)

    lanes = [threading.Thread(target=serve, args=(cpu,)) for cpu in cpus]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()


def _tell(interpreter: Interpreter, found: dict[str, Any], seconds: float) -> None:
    rounds = found.get("seconds", {})
    ratios = {
        name: ratio_of([each], [rounds["none"]]) for name, each in rounds.items() if name != "none"
    }
    print(
        f"{seconds:5.0f} s  {interpreter.label}: {found['workload']}, launch {found['launch'] + 1}, "
        f"{len(rounds.get('none', ()))} rounds: "
        + ", ".join(f"{name} {ratio.median:.3f}" for name, ratio in ratios.items() if ratio)
        + "".join(f"; {name} FAILED: {why}" for name, why in found["failed"].items()),
        file=sys.stderr,
        flush=True,
    )


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks compare", description=__doc__)
    parser.add_argument(
        "--python", nargs="+", default=[sys.executable], help="interpreters (default: this one)"
    )
    parser.add_argument("--profilers", nargs="+", choices=PROFILERS, default=list(PROFILERS))
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--launches", type=int, default=4, help="new processes (default: 4)")
    parser.add_argument("--rounds", type=int, default=120, help="rounds of a launch (default: 120)")
    parser.add_argument("--seconds", type=float, default=0.02, help="of a round (default: 0.02)")
    parser.add_argument("--minutes", type=float, default=0, help="for all of it; fewer rounds then")
    parser.add_argument("--cpu", type=int, nargs="+", default=[0], help="a lane each (default: 0)")
    parser.add_argument("--resume", action="store_true", help="keep the launches that are there")
    options = parser.parse_args(arguments)
    interpreters = [prepare(python) for python in options.python]
    # what does not cover everything must not take the place of what does
    whole = len(options.workloads) == len(WORKLOADS) and "ddtrace" in options.profilers
    kind = "compare" if whole else "compare_part"
    run(
        sorted(interpreters, key=lambda i: not i.optimized),
        options.profilers,
        options.workloads,
        launches=options.launches,
        rounds=options.rounds,
        round_seconds=options.seconds,
        minutes=options.minutes,
        cpus=[cpu for cpu in options.cpu if cpu < (os.cpu_count() or 1)],
        resume=options.resume,
        kind=kind,
    )
    comparison.show(comparison.load(kind))
    return 0


if __name__ == "__main__":
    sys.exit(main())
