"""CPU time and memory of each profiler beside none, in one interleaved run.

For each workload, a launch starts one process per profiler; then they take turns, round by round,
each doing the same work while the others wait. A ratio is made of rounds
that lie side by side, so what the machine does to both cancels out. Each launch has new processes,
addresses and a new hash seed, the same for all profilers, and each process a heap of its own (lot.py).
Each lane is one CPU, with a launch of its own.

Slow profilers have launches of their own, with a process without a profiler beside them: their ratios are large and
need few rounds, and the others shall not wait for them. Where time is given, the others get launches for as long as
it lasts, each short: a new launch tells more than more rounds of an old one (where things lie in memory differs).
Each launch is a result of its own on disk: `--resume` goes on where a run ended.
"""

from __future__ import annotations

import argparse
import math
import os
import queue
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from benchmarks import comparison, ratios, results
from benchmarks.interpreters import Interpreter, prepare_all
from benchmarks.profilers import PROFILERS
from benchmarks.turns import WorkerError, last_line, launch
from benchmarks.workloads import WORKLOADS

ROUNDS, LEAST_ROUNDS = 12, 4
SLOW_ROUNDS, LEAST_SLOW_ROUNDS = 5, 3
SLOW_EVERY = 6
"""Launches of slow profilers: the first, and one beside every so many."""
MOST_LAUNCHES = 100
"""Where the time says how many: more than ever fit."""


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


class Task(NamedTuple):
    """One launch."""

    interpreter: Interpreter
    workload: str
    number: int
    slow: bool

    @property
    def part(self) -> str:
        """Its name among the parts of the result."""
        return f"{self.workload}-{'slow-' if self.slow else ''}{self.number}"


def plan(
    interpreters: Sequence[Interpreter],
    workloads: Sequence[str],
    passes: Sequence[bool],
    launches: int,
) -> list[Task]:
    """All launches in order, the first of everything before any second; slow profilers (True) are in few of them."""
    return [
        Task(interpreter, workload, number, slow)
        for number in range(launches)
        for slow in passes
        if not slow or number % SLOW_EVERY == 0
        for workload in workloads
        for interpreter in interpreters
    ]


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

    With `minutes`, launches after the first of each kind are begun only until time is up; the first have least rounds
    if it does not suffice. 0: all launches, with all rounds.
    """
    passes = {
        slow: ["none", *(n for n in profilers if n != "none" and PROFILERS[n].slow == slow)]
        for slow in (False, True)
    }
    if not resume:
        for interpreter in interpreters:
            results.forget(kind, interpreter)
    tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
    kept = 0
    for task in plan(interpreters, workloads, [s for s in passes if len(passes[s]) > 1], launches):
        if resume and "seconds" in results.kept(kind, task.interpreter, task.part):
            kept += 1
        else:
            tasks.put(task)
    if kept:
        print(f"kept: {kept} launches of the same fastalloc", file=sys.stderr)
    began, end = time.monotonic(), time.monotonic() + 60 * minutes
    has = {each.tag: set(available(each, profilers)) | {"none"} for each in interpreters}

    def serve(cpu: int) -> None:
        while True:
            try:
                task = tasks.get_nowait()
            except queue.Empty:
                return
            if minutes and task.number and time.monotonic() > end:
                continue
            try:
                found = launch(
                    task.interpreter,
                    [name for name in passes[task.slow] if name in has[task.interpreter.tag]],
                    task.workload,
                    task.number,
                    until=end if minutes else math.inf,
                    rounds=SLOW_ROUNDS if task.slow else rounds,
                    least_rounds=LEAST_SLOW_ROUNDS if task.slow else LEAST_ROUNDS,
                    round_seconds=round_seconds,
                    cpu=cpu,
                )
            except WorkerError as error:
                found = {
                    "workload": task.workload,
                    "launch": task.number,
                    "failed": {"none": str(error)},
                }
            found["slow"] = task.slow
            results.save(kind, task.interpreter, found, task.part)
            _tell(task.interpreter, found, time.monotonic() - began)

    with ThreadPoolExecutor(len(cpus)) as pool:
        for lane in [pool.submit(serve, cpu) for cpu in cpus]:
            lane.result()


def _tell(interpreter: Interpreter, found: dict[str, Any], seconds: float) -> None:
    rounds = found.get("seconds", {})
    found_ratios = {
        name: ratios.compare([each], ratios.base({n: [r] for n, r in rounds.items()}, name))
        for name, each in rounds.items()
        if name != "none"
    }
    print(
        f"{seconds:5.0f} s  {interpreter.label}: {found['workload']}, launch {found['launch'] + 1}"
        f"{' of slow ones' if found['slow'] else ''}, "
        f"{len(rounds.get('none', ()))} rounds: "
        + ", ".join(f"{name} {ratio.mean:.3f}" for name, ratio in found_ratios.items() if ratio)
        + "".join(f"; {name} FAILED: {last_line(why)}" for name, why in found["failed"].items()),
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
    parser.add_argument("--launches", type=int, help="new processes (4; with --minutes, what fits)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of a launch ({ROUNDS})")
    parser.add_argument("--seconds", type=float, default=0.02, help="of a round (default: 0.02)")
    parser.add_argument("--minutes", type=float, default=0, help="for all of it")
    allowed = sorted(os.sched_getaffinity(0))
    parser.add_argument("--cpu", type=int, nargs="+", default=allowed[:1], help="a lane each")
    parser.add_argument("--resume", action="store_true", help="keep the launches that are there")
    options = parser.parse_args(arguments)
    if not set(options.cpu) <= set(allowed):
        parser.error(f"--cpu: this process may run on {', '.join(map(str, allowed))} only")
    # what does not cover everything must not take the place of what does
    whole = set(options.workloads) == set(WORKLOADS)
    whole = whole and {*options.profilers, "none"} == set(PROFILERS)
    kind = "compare" if whole else "compare_part"
    run(
        prepare_all(options.python),
        options.profilers,
        options.workloads,
        launches=options.launches or (MOST_LAUNCHES if options.minutes else 4),
        rounds=options.rounds,
        round_seconds=options.seconds,
        minutes=options.minutes,
        cpus=list(dict.fromkeys(options.cpu)),
        resume=options.resume,
        kind=kind,
    )
    comparison.show(comparison.load(kind))
    return 0


if __name__ == "__main__":
    sys.exit(main())
