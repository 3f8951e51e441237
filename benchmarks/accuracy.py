"""The error of each profiler's answer: what it says of lines whose live bytes are known, by its own reader."""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import results
from benchmarks.accuracy_program import READERS
from benchmarks.compare import available
from benchmarks.interpreters import FOLDER, Interpreter, answer, prepare
from benchmarks.profilers import PROFILERS, WITHOUT_LIVE_HEAP
from benchmarks.tables import Table

RUNS = 30
"""Of a profiler that samples; one of the others, whose answer is the same each time."""
LIMIT_SECONDS = 300
PROGRAM = "benchmarks.accuracy_program"


def once(interpreter: Interpreter, profiler: str, seed: int) -> dict[str, Any]:
    """One process: {"truth": ..., "found": ...}, {"unreadable": why} or {"failed": why}."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as scratch:
        arguments = (profiler, scratch, seed)
        return answer(interpreter, PROGRAM, *arguments, seed=seed, seconds=LIMIT_SECONDS)


def run(interpreter: Interpreter) -> Path:
    """Measure all, and save. Nothing is timed, so that each CPU has a run."""
    found: dict[str, list[dict[str, Any]]] = {}
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for name in available(interpreter, [*READERS, *WITHOUT_LIVE_HEAP]):
            seeds = range(1, (1 if PROFILERS[name].slow else RUNS) + 1)
            found[name] = list(
                pool.map(lambda seed, name=name: once(interpreter, name, seed), seeds)
            )
            print(f"{interpreter.label}: {name} {_cells(found[name])}", file=sys.stderr, flush=True)
    return results.save("accuracy", interpreter, {"runs": found})


def errors_of(answer: dict[str, Any]) -> tuple[float, float]:
    """Of one run: the lines' errors added up, and that of the sum, both in percent of the truth."""
    truth, found = answer["truth"], answer["found"]
    total = sum(truth.values())
    by_line = sum(abs(found[line] - truth[line]) for line in truth)
    return 100 * by_line / total, 100 * abs(sum(found.values()) - total) / total


def _cells(runs: list[dict[str, Any]]) -> tuple[str, str, str]:
    good = [errors_of(each) for each in runs if "truth" in each]
    if not good:
        why = runs[0].get("unreadable") or runs[0].get("failed", "")
        return "-", "-", ("not readable: " if "unreadable" in runs[0] else "failed: ") + why
    by_line, total = (_spread(column) for column in zip(*good, strict=True))
    lost = len(runs) - len(good)
    told = f"{len(good)} run{'s' * (len(good) > 1)}" + f", {lost} failed" * (lost > 0)
    return by_line, total, told


def _spread(percents: tuple[float, ...]) -> str:
    """Median and quartiles."""
    if len(percents) == 1:
        return f"{percents[0]:.1f} %"
    low, median, high = statistics.quantiles(percents, n=4, method="inclusive")
    return f"{median:.1f} % ({low:.1f}-{high:.1f})"


def table(documents: list[dict[str, Any]]) -> Table:
    """One row per profiler."""
    parts = ("by line", "in all", "")
    shown = Table(
        "Error of the live heap",
        ["", *(f"{d['interpreter']['label']} {part}".strip() for d in documents for part in parts)],
        note="A program holds known bytes on six lines, after as much was allocated and freed. By line: "
        "the lines' errors added up, over the truth; in all: of their sum. Median and quartiles of the runs. Each tool as "
        "set above, read by its own reader; of ddtrace and Pyroscope what they upload.",
    )
    for name in PROFILERS:
        if any(name in document["runs"] for document in documents):
            row = [PROFILERS[name].title]
            for document in documents:
                row += _cells(document["runs"].get(name) or [{"failed": "not installed"}])
            shown.rows.append(row)
    return shown


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks accuracy", description=__doc__)
    parser.add_argument(
        "--python", nargs="+", default=[sys.executable], help="interpreters (default: this one)"
    )
    for python in parser.parse_args(arguments).python:
        run(prepare(python))
    table(results.load("accuracy")).show()
    return 0
