"""CPU time and memory of each profiler beside none, in one interleaved run.

For each workload, a launch starts one process per profiler; then they take turns, round by round
(A B C A B C ...), each doing the same work while the others wait. A ratio is made of two rounds
that lie side by side, so what the machine does to both cancels out. Each launch has new processes,
addresses and a new hash seed, the same for all profilers.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from benchmarks import report, results
from benchmarks.interpreters import FOLDER, ROOT, Interpreter, environment, prepare
from benchmarks.profilers import PROFILERS
from benchmarks.ratios import compare as ratio_of
from benchmarks.workloads import WORKLOADS

SLOW = 8
"""Slow profilers take part in one of so many turns: their ratios are large, and need no more."""


class Worker:
    """One measured process, and its answers. A context manager."""

    def __init__(
        self, python: Path, profiler: str, workload: str, scratch: str, seed: int, cpu: int | None
    ) -> None:
        pin = ["taskset", "--cpu-list", str(cpu)] if cpu is not None else []
        self.profiler = PROFILERS[profiler]
        self.process = subprocess.Popen(
            [*pin, str(python), *self.profiler.command(scratch), profiler, workload, scratch],
            cwd=ROOT,
            env=environment(PYTHONHASHSEED=str(seed), PYTHONPATH=str(ROOT)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.start_rss_bytes = self._answer()["start_rss_bytes"]

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.communicate()

    def seconds(self, loops: int) -> float:
        """CPU seconds of one loop."""
        self._write(f"{loops}\n")
        return float(self._answer()["seconds"]) / loops

    def peak_rss_bytes(self) -> int:
        """Ends the process."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.stdin = None
        return int(self._answer()["peak_rss_bytes"])

    def _write(self, text: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def _answer(self) -> dict[str, float]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        while line and not line.startswith("{"):  # what the profiler itself says
            line = self.process.stdout.readline()
        if not line:
            _, errors = self.process.communicate()
            raise RuntimeError(f"{self.profiler.title} failed:\n{errors[-2000:]}")
        return dict(json.loads(line))


def run(
    interpreter: Interpreter,
    profilers: list[str],
    workloads: list[str],
    launches: int,
    rounds: int,
    round_seconds: float,
    cpu: int | None,
) -> Iterator[dict[str, object]]:
    """Measure; after each workload gives the raw rounds of all so far, by workload and profiler."""
    measured: dict[str, object] = {}
    for workload in workloads:
        seconds: dict[str, list[list[float | None]]] = {name: [] for name in profilers}
        start_rss: dict[str, list[float]] = {name: [] for name in profilers}
        peak_rss: dict[str, list[float]] = {name: [] for name in profilers}
        loops = 0
        started = time.monotonic()
        for launch in range(launches):
            with tempfile.TemporaryDirectory(dir=FOLDER) as scratch, ExitStack() as stack:
                workers = {
                    name: stack.enter_context(
                        Worker(interpreter.python, name, workload, scratch, launch + 1, cpu)
                    )
                    for name in profilers
                }
                loops = loops or max(1, round(round_seconds / workers["none"].seconds(4)))
                for name in profilers:
                    seconds[name].append([])
                for turn in range(rounds):
                    first = (turn * 3 + launch) % len(profilers)
                    for name in (*profilers[first:], *profilers[:first]):
                        takes_part = turn % SLOW == 0 or not PROFILERS[name].slow
                        seconds[name][-1].append(
                            workers[name].seconds(loops) if takes_part else None
                        )
                for name, worker in workers.items():
                    start_rss[name].append(worker.start_rss_bytes)
                    peak_rss[name].append(worker.peak_rss_bytes())
        measured[workload] = {
            "loops": loops,
            "seconds": seconds,
            "start_rss_bytes": {n: statistics.median(v) for n, v in start_rss.items()},
            "peak_rss_bytes": {n: statistics.median(v) for n, v in peak_rss.items()},
        }
        ratios = {name: ratio_of(rounds, seconds["none"]) for name, rounds in seconds.items()}
        print(
            f"{interpreter.label}: {workload}, {time.monotonic() - started:.0f} s: "
            + ", ".join(f"{n} {r.median:.3f}" for n, r in ratios.items()),
            file=sys.stderr,
            flush=True,
        )
        yield measured


def available(interpreter: Interpreter, wanted: list[str]) -> list[str]:
    """The profilers that this interpreter has; says which are missing."""
    found = []
    for name in wanted:
        package = PROFILERS[name].package
        if not package or package in interpreter.packages:
            found.append(name)
        else:
            print(f"{interpreter.label}: no {package}, so no row for it", file=sys.stderr)
    return found


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
    parser.add_argument("--cpu", type=int, help="pin all measured processes to this CPU")
    options = parser.parse_args(arguments)
    for python in options.python:
        interpreter = prepare(python)
        wanted = ["none", *(name for name in options.profilers if name != "none")]
        # what does not cover everything must not take the place of what does
        whole = len(options.workloads) == len(WORKLOADS) and "ddtrace" in options.profilers
        kind = "compare" if whole else "compare_part"
        settings = {
            "launches": options.launches,
            "rounds": options.rounds,
            "seconds": options.seconds,
        }
        for measured in run(
            interpreter,
            available(interpreter, wanted),
            options.workloads,
            options.launches,
            options.rounds,
            options.seconds,
            options.cpu,
        ):
            content = {"settings": settings, "workloads": measured}
            path = results.save(kind, interpreter, content)
        print(f"results: {path.relative_to(ROOT)}", file=sys.stderr)
        report.show(kind, interpreter.tag)
    return 0


if __name__ == "__main__":
    sys.exit(main())
