"""Native memory by line beside memray's exact answer: the same programs and seeds, in twin processes."""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import results
from benchmarks.interpreters import FOLDER, Interpreter, answer, prepare
from benchmarks.native_accuracy_program import INTERVAL_BYTES, LIBRARIES
from benchmarks.tables import Table

PEERS = ("memray",)
RUNS = 10
LIMIT_SECONDS = 120
PROGRAM = "benchmarks.native_accuracy_program"
LEAST_BYTES = 256 * 1024
"""Of a line, by memray: less is a sample or two, of which no error can be told."""

MEMRAYS_OWN = 0.005
"""Of a line: what memray's profile function makes CPython allocate in it (3.11: a table of lines for each function
that runs; 0.17 % of pandas' merge, where fastalloc at interval 1 has all else to the byte)."""

Runs = list[dict[str, Any]]
"""Each {"truth": {line: bytes}, "found": {line: [bytes, standard error]}}, or {"failed": why}."""


class Line(NamedTuple):
    """What all runs say of one line."""

    label: str
    truth_bytes: float
    """Mean over the runs, as the next."""
    found_bytes: float
    bias: float
    """Mean of the runs' differences, over the truth: beyond two or three `bias_error`s from 0 it is no chance."""
    bias_error: float
    unseen: float
    """Of the truth: three intervals over all runs. So much in blocks far smaller than one is sampled in none of the runs,
    and leaves no spread, once in 20 times."""
    off: float
    """Root mean square of the runs' differences in their standard errors: 1, when these are right."""


def held_by_line(
    interpreter: Interpreter, profiler: str, library: str, seed: int
) -> dict[str, Any]:
    """Of one process: bytes and standard error by line, or {"failed": why}."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as scratch:
        arguments = (profiler, library, seed, scratch)
        found = answer(interpreter, PROGRAM, *arguments, seed=seed, seconds=LIMIT_SECONDS)
    return {"failed": f"{profiler}: {found['failed']}"} if "failed" in found else found


def once(interpreter: Interpreter, library: str, seed: int) -> dict[str, Any]:
    """The twins."""
    truth = held_by_line(interpreter, "memray", library, seed)
    found = (
        held_by_line(interpreter, "fastalloc", library, seed) if "failed" not in truth else truth
    )
    if "failed" in found:
        return {"failed": found["failed"]}
    return {"truth": {line: size for line, (size, _) in truth.items()}, "found": found}


def run(interpreter: Interpreter, libraries: list[str], runs: int) -> Path:
    """Measure, and save."""
    found: dict[str, Runs] = {}
    for library in libraries:
        found[library] = [once(interpreter, library, seed + 1) for seed in range(runs)]
        print(f"{interpreter.label}: {library}, {runs} runs", file=sys.stderr, flush=True)
    content = {"interval_bytes": INTERVAL_BYTES, "runs": found}
    return results.save("native-accuracy", interpreter, content)


def lines_of(runs: Runs) -> list[Line]:
    """The lines that hold LEAST_BYTES in each run, the largest first."""
    good = [each for each in runs if "truth" in each]
    labels = {label for each in good for label in each["truth"]}
    lines = []
    for label in labels:
        truth = [each["truth"].get(label, 0.0) for each in good]
        if min(truth) < LEAST_BYTES:
            continue
        found = [each["found"].get(label, (0.0, 0.0)) for each in good]
        shares = [size / exact - 1 for (size, _), exact in zip(found, truth, strict=True)]
        # Where nothing was sampled the error is that of one sample.
        offs = [
            (size - exact) / (error or INTERVAL_BYTES)
            for (size, error), exact in zip(found, truth, strict=True)
        ]
        spread = statistics.stdev(shares) / math.sqrt(len(shares)) if len(shares) > 1 else math.inf
        lines.append(
            Line(
                label,
                statistics.fmean(truth),
                statistics.fmean(size for size, _ in found),
                statistics.fmean(shares),
                spread,
                3 * INTERVAL_BYTES / statistics.fmean(truth) / len(good),
                math.sqrt(statistics.fmean(off * off for off in offs)),
            )
        )
    return sorted(lines, key=lambda line: (-line.truth_bytes, line.label))


def table(documents: list[dict[str, Any]]) -> Table:
    """One row per interpreter, library and line."""
    interval = documents[0]["interval_bytes"] // 1024 if documents else 0
    shown = Table(
        "Native memory by line against memray",
        ["", "memray, MiB", "fastalloc, MiB", "difference, mean", "in standard errors", ""],
        note="Twin processes of the same program and seed: memray tracks every allocation of all allocators and is the "
        f"truth, fastalloc samples with native on, {interval} KiB apart. Difference: mean over the runs with its standard "
        "error: the bias. In standard errors: root mean square of single runs' differences in the standard error that "
        "fastalloc gives with them; 1 is as promised, and more where a block of several intervals was missed once, which is "
        'rare and of which the run\'s own error knows nothing. "no": the bias is over three of its errors, three intervals '
        "over all runs, and 0.5 % for what memray makes CPython allocate.",
    )
    for document in documents:
        name = document["interpreter"]["label"]
        for library, runs in document["runs"].items():
            failed = [each["failed"] for each in runs if "failed" in each]
            if failed:
                shown.rows.append(
                    [f"{name}: {library}", "-", "-", "-", "-", f"failed: {failed[0]}"]
                )
            for line in lines_of(runs):
                spread = f" ± {line.bias_error:.1%}" if math.isfinite(line.bias_error) else ""
                allowed = 3 * line.bias_error + line.unseen + MEMRAYS_OWN
                judged = "yes" if abs(line.bias) <= allowed else "**no**"
                shown.rows.append(
                    [
                        f"{name}: {library}: `{line.label.replace('|', '/')}`",
                        f"{line.truth_bytes / 2**20:.2f}",
                        f"{line.found_bytes / 2**20:.2f}",
                        f"{line.bias:+.1%}{spread}",
                        f"{line.off:.1f}",
                        judged if math.isfinite(line.bias_error) else "one run",
                    ]
                )
    return shown


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks native-accuracy", description=__doc__
    )
    parser.add_argument(
        "--python", nargs="+", default=[sys.executable], help="interpreters (default: this one)"
    )
    parser.add_argument("--runs", type=int, default=RUNS, help=f"seeds ({RUNS})")
    parser.add_argument("--libraries", nargs="+", choices=LIBRARIES, default=list(LIBRARIES))
    options = parser.parse_args(arguments)
    for python in options.python:
        run(prepare(python, PEERS), options.libraries, options.runs)
    table(results.load("native-accuracy")).show()
    return 0
