"""All of docs/benchmarks.md, its plots and README's figures by one command, in a given time.

    python -m benchmarks docs --python /usr/bin/python3.11 .venv/bin/python --minutes 25

Parts are measured one after the other, each in its share of the time; what times nothing (instructions, the
error of each tool's answer) may be measured beforehand, on a busy machine: `--parts instructions accuracy`. Each part
leaves JSON in build/benchmarks/results, and the page is written anew from all of it after each part. A part
that fails is told of on the page, and the others go on. `--resume` keeps what was measured of the same fastalloc.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence

from benchmarks import (
    accuracy,
    compare,
    growth,
    instructions,
    overheads,
    report,
    results,
    startup,
)
from benchmarks.interpreters import Interpreter, prepare
from benchmarks.profilers import PROFILERS
from benchmarks.workloads import WORKLOADS

WHOLE_WORKLOADS_MINUTES = 10
"""What valgrind takes for the workloads of an interpreter; with less, only pairs are counted."""


class Part:
    """A part of the page: its share of the time, and what measures it: (pythons, minutes, resume) -> status."""

    def __init__(
        self, name: str, share: float, measure: Callable[[list[str], float, bool], int]
    ) -> None:
        self.name, self.share, self.measure = name, share, measure


def _compare(pythons: list[str], minutes: float, resume: bool) -> int:
    interpreters = sorted((prepare(python) for python in pythons), key=lambda i: not i.optimized)
    compare.run(
        interpreters,
        list(PROFILERS),
        list(WORKLOADS),
        launches=6,
        rounds=400,
        round_seconds=0.02,
        minutes=minutes,
        cpus=range(os.cpu_count() or 1),
        resume=resume,
    )
    return 0


def _missing(kind: str, pythons: list[str], resume: bool) -> list[str]:
    if not resume:
        return pythons
    return [python for python in pythons if not results.exists(kind, prepare(python))]


def _overheads(pythons: list[str], minutes: float, resume: bool) -> int:
    wanted = _missing("overheads", pythons, resume)
    seconds = max(5.0, min(60.0, 60 * minutes / max(1, len(wanted)) - 45))
    arguments = ["--python", *wanted, "--app-seconds", f"{seconds:.0f}"]
    return overheads.main(arguments) if wanted else 0


def _growth(pythons: list[str], minutes: float, resume: bool) -> int:
    wanted = _missing("growth", pythons, resume)
    return growth.main(["--python", *wanted]) if wanted else 0


def _startup(pythons: list[str], minutes: float, resume: bool) -> int:
    for python in _missing("startup", pythons, resume):
        startup.run(prepare(python), minutes / len(pythons))
    return 0


def _instructions(pythons: list[str], minutes: float, resume: bool) -> int:
    wanted = _missing("instructions", pythons, resume)
    few = ["--pairs-only"] if minutes < WHOLE_WORKLOADS_MINUTES * len(wanted) else []
    return instructions.main(["--python", *wanted, *few]) if wanted else 0


def _accuracy(pythons: list[str], minutes: float, resume: bool) -> int:
    for python in _missing("accuracy", pythons, resume):
        accuracy.run(prepare(python))
    return 0


PARTS = {
    part.name: part
    for part in (
        Part("compare", 0.60, _compare),
        Part("startup", 0.06, _startup),
        Part("overheads", 0.12, _overheads),
        Part("growth", 0.14, _growth),
        Part("accuracy", 0.04, _accuracy),
        Part("instructions", 0.04, _instructions),
    )
}


def run(parts: Sequence[str], pythons: list[str], minutes: float, resume: bool) -> int:
    """Measure the parts and write the page; 1 if one failed."""
    end = time.monotonic() + 60 * minutes
    shares = sum(PARTS[name].share for name in parts)
    failed = 0
    for name in parts:
        part = PARTS[name]
        left = (end - time.monotonic()) / 60
        mine = max(0.5, left * part.share / shares) if shares > 0 else left
        shares -= part.share
        print(f"== {name}, {mine:.1f} of {left:.1f} minutes", file=sys.stderr, flush=True)
        try:
            part.measure(pythons, mine, resume)
            results.note(name, "")
        except Exception as error:
            traceback.print_exc()
            results.note(name, f"{type(error).__name__}: {str(error).strip().splitlines()[-1:]}")
            failed = 1
        report.main([])
    return failed


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks docs", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--python", nargs="+", default=[sys.executable], help="interpreters (default: this one)"
    )
    parser.add_argument("--minutes", type=float, default=25, help="for what is timed (25)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--resume", action="store_true", help="keep what is there")
    options = parser.parse_args(arguments)
    interpreters: list[Interpreter] = [prepare(python) for python in options.python]
    print(", ".join(each.label for each in interpreters), file=sys.stderr)
    return run(options.parts, options.python, options.minutes, options.resume)


if __name__ == "__main__":
    sys.exit(main())
