"""Instructions that fastalloc adds to one allocation and free, and to whole workloads.

Counted by valgrind, so the same on every machine and at every hour; budgets.json holds what is
allowed, and tests/benchmarks checks it. Results of the same fastalloc are added to, never replaced by fewer: what is
counted is kept at once, so a run may be ended at any time.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import counting, report, results
from benchmarks.compare import available
from benchmarks.interpreters import Interpreter, prepare_all
from benchmarks.profilers import PROFILERS
from benchmarks.workloads import WORKLOADS

VARIANTS = ("none", "standby", "light", "aggressive", "forward_all", "ddtrace")
C_FRAMES = "each, C frames"
LAYERS = tuple(name for name in counting.VARIANTS if name not in (*VARIANTS, C_FRAMES))
"""Counted for the commonest path alone."""
NATIVE = ("none", "each", C_FRAMES)
"""Counted for a native allocation: what a sample of one takes."""
SAMPLE = "each, 30 frames"
"""Whose instructions are told by source file."""
COUNTED = ("none", "forward", "forward_all", "standby", "counters", "light", "ddtrace")
LOOPS = {"raytrace": 3, "async_tree": 4, "django_template": 8, "deltablue": 8}
LOOPS_OTHERWISE = 25
BUDGETS = Path(__file__).parent / "budgets.json"


def budget(case: str, optimized: bool) -> float | None:
    """Instructions that light mode may add, None where nothing is promised."""
    limits = json.loads(BUDGETS.read_text()).get(case)
    return limits["PGO" if optimized else "no PGO"] if limits else None


def exceeded(interpreter: Interpreter) -> list[str]:
    """Budgets that the result exceeds: a line each."""
    lines = []
    for case, added in results.kept("instructions", interpreter).get("pairs", {}).items():
        limit = budget(case, interpreter.optimized)
        more = added.get("light", 0) - added.get("none", 0)
        if limit is not None and more > limit:
            lines.append(f"{interpreter.label}: {case}: {more:.1f} added, allowed {limit}")
    return lines


def merged(
    known: dict[str, Any], part: str, found: counting.Counts, failed: dict[str, str]
) -> dict[str, Any]:
    """The content of a result with `found` added to its `part`, pairs, workloads or sample; nothing is lost."""
    content = {key: known.get(key, {}) for key in ("pairs", "workloads", "sample", "failed")}
    rows = {row: dict(each) for row, each in content[part].items()}
    for row, each in found.items():
        rows.setdefault(row, {}).update(each)
    mended = {column for each in found.values() for column in each}
    told = {name: why for name, why in content["failed"].items() if name not in mended}
    return {**content, part: rows, "failed": told | failed}


def run(
    interpreter: Interpreter,
    *,
    minutes: float = math.inf,
    workloads: Sequence[str] = tuple(WORKLOADS),
    profilers: Sequence[str] = COUNTED,
    jobs: int | None = None,
    again: bool = True,
) -> list[str]:
    """Count pairs, then workloads until time is up, the uncounted first; save each. The budgets that are exceeded.

    Not `again`: what was counted of the same fastalloc is left as it is.
    """
    until = time.monotonic() + 60 * minutes

    def known(part: str) -> dict[str, dict[str, float]]:
        return dict(results.kept("instructions", interpreter).get(part, {}))

    def keep(part: str, found: tuple[counting.Counts, dict[str, str]]) -> None:
        before = results.kept("instructions", interpreter)
        results.save("instructions", interpreter, merged(before, part, *found))
        for name, why in found[1].items():
            _say(f"{interpreter.label}: {name} FAILED: {why}")

    has = {
        name
        for name in counting.VARIANTS
        if counting.PACKAGES.get(name, "") in ("", *interpreter.packages)
    }
    for cases, names in (
        (tuple(counting.CASES), VARIANTS),
        ((counting.PAIR,), LAYERS),
        ((counting.NATIVE_PAIR,), NATIVE),
    ):
        names = tuple(name for name in names if name in has)
        for case in cases:
            if again or not set(names) <= set(known("pairs").get(case, {})):
                keep("pairs", counting.pair_instructions(interpreter.python, names, [case], jobs))
    if again or not known("sample"):
        try:
            sample = counting.sample_instructions(interpreter.python, SAMPLE)
            keep("sample", ({SAMPLE: sample}, {}))
        except RuntimeError as error:
            keep("sample", ({}, {SAMPLE: str(error)}))
    wanted = available(interpreter, profilers)
    for workload in sorted(workloads, key=lambda name: len(known("workloads").get(name, {}))):
        if time.monotonic() > until:
            _say(f"{interpreter.label}: no time to count {workload}")
            continue
        if again or not set(wanted) <= set(known("workloads").get(workload, {})):
            loops = LOOPS.get(workload, LOOPS_OTHERWISE)
            python = interpreter.python
            found = counting.workload_instructions(python, wanted, workload, loops, jobs)
            keep("workloads", found)
    return exceeded(interpreter)


def main(arguments: list[str] | None = None) -> int:
    """The command. 1 when a budget is exceeded, 2 without valgrind."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks instructions", description=__doc__)
    parser.add_argument(
        "--python", nargs="+", default=[sys.executable], help="interpreters (default: this one)"
    )
    parser.add_argument("--jobs", type=int, help="counts at a time (default: one per core)")
    parser.add_argument("--pairs-only", action="store_true", help="no whole workloads")
    parser.add_argument("--minutes", type=float, default=math.inf, help="of each interpreter (all)")
    parser.add_argument("--resume", action="store_true", help="keep what is there")
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument(
        "--profilers", nargs="+", choices=PROFILERS, default=COUNTED, help="for whole workloads"
    )
    options = parser.parse_args(arguments)
    if counting.missing():
        _say(counting.missing())
        return 2
    over = [
        line
        for interpreter in prepare_all(options.python)
        for line in run(
            interpreter,
            minutes=options.minutes,
            workloads=() if options.pairs_only else options.workloads,
            profilers=options.profilers,
            jobs=options.jobs,
            again=not options.resume,
        )
    ]
    report.show("instructions")
    for line in over:
        _say(f"over budget: {line}")
    return 1 if over else 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
