"""What hooks and samples cost, told within one process: `python -m benchmarks switched`.

Two processes differ by some per cent of CPU for where their heaps lie alone (lot.py), which takes compare tens of launches
to even out. Here one process does the work with fastalloc off, counting and recording in turns: heap, code and pages are
the same in all of them. With eight launches standard errors were 0.1 to 0.6 % on a noisy machine. So this is for whoever
changes a hook. What is there in all turns it cannot see: the import, the watcher's thread, and with
`--native` that other libraries' calls of malloc lead to us (in the turns that are off they only pass).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks import lot
from benchmarks.interpreters import Interpreter, answer, prepare_all
from benchmarks.ratios import compare
from benchmarks.switched_program import STATES
from benchmarks.tables import Table
from benchmarks.workloads import WORKLOADS
from benchmarks.workloads_native import NATIVE

LAUNCHES, ROUNDS = 8, 40
SECONDS = 120.0
"""A process that takes longer has failed."""


def cell(launches: list[dict[str, Any]], state: str) -> str:
    """CPU time in that state over that of the turns beside it that are off, with its standard error."""
    seconds = {name: [each["seconds"][name] for each in launches] for name in (state, "off")}
    ratio = compare(seconds[state], seconds["off"])
    return f"{ratio.mean:.4f} ± {ratio.error:.4f}" if ratio else "-"


def run(
    interpreter: Interpreter, workloads: Sequence[str], native: bool, launches: int, rounds: int
) -> Table:
    """Measure: a row for each workload."""
    shown = Table(
        f"CPU time over that with fastalloc off, {interpreter.label}",
        ["", "off, again (the noise)", "counting, no samples", "recording"],
        note=f"{launches} processes, each with {rounds} turns of each kind; ± is the standard error.",
    )
    for workload in workloads:
        found = [
            answer(
                interpreter,
                "benchmarks.switched_program",
                *(workload, native, rounds),
                seed=seed + 1,
                seconds=SECONDS,
                variables={lot.VARIABLE: f"{workload} {seed}"},
            )
            for seed in range(launches)
        ]
        failed = [each["failed"] for each in found if "failed" in each]
        if failed:
            print(f"{interpreter.label}: {workload} FAILED: {failed[0]}", file=sys.stderr)
            shown.rows.append([workload, *("failed" for _ in list(STATES)[1:])])
            continue
        shown.rows.append([workload, *(cell(found, state) for state in list(STATES)[1:])])
    return shown


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks switched", description=__doc__)
    parser.add_argument(
        "--python", nargs="+", default=[sys.executable], help="interpreters (default: this one)"
    )
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=NATIVE)
    parser.add_argument("--native", action="store_true", help="native allocations, too")
    parser.add_argument("--launches", type=int, default=LAUNCHES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args(arguments)
    for interpreter in prepare_all(options.python, []):
        run(interpreter, options.workloads, options.native, options.launches, options.rounds).show()
    return 0
