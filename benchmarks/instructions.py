"""Instructions that fastalloc adds to one allocation and free, and to whole workloads.

Counted by valgrind, so the same on every machine and at every hour; budgets.json holds what is
allowed, and tests/benchmarks checks it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks import counting, report, results
from benchmarks.compare import available
from benchmarks.interpreters import ROOT, prepare
from benchmarks.profilers import PROFILERS
from benchmarks.workloads import WORKLOADS

MODES = ["none", "standby", "light"]
LOOPS = {"raytrace": 3, "async_tree": 4, "django_template": 8, "deltablue": 8}
LOOPS_OTHERWISE = 25
BUDGETS = Path(__file__).parent / "budgets.json"


def budget(case: str, optimized: bool) -> float | None:
    """Instructions that light mode may add, None where nothing is promised."""
    limits = json.loads(BUDGETS.read_text()).get(case)
    return limits["PGO" if optimized else "no PGO"] if limits else None


def main(arguments: list[str] | None = None) -> int:
    """The command. 1 when a budget is exceeded, 2 without valgrind."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks instructions", description=__doc__)
    parser.add_argument(
        "--python", nargs="+", default=[sys.executable], help="interpreters (default: this one)"
    )
    parser.add_argument("--jobs", type=int, help="counts at a time (default: one per core)")
    parser.add_argument("--pairs-only", action="store_true", help="no whole workloads")
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument(
        "--profilers",
        nargs="+",
        choices=PROFILERS,
        default=["none", "forward", "standby", "light", "ddtrace"],
        help="for whole workloads",
    )
    options = parser.parse_args(arguments)
    if counting.missing():
        print(counting.missing(), file=sys.stderr)
        return 2
    exceeded = []
    for python in options.python:
        interpreter = prepare(python)
        pairs = counting.pair_instructions(interpreter.python, MODES, jobs=options.jobs)
        for case, by_mode in pairs.items():
            limit = budget(case, interpreter.optimized)
            added = by_mode["light"] - by_mode["none"]
            if limit is not None and added > limit:
                exceeded.append(f"{interpreter.label}: {case}: {added:.1f} added, allowed {limit}")
        whole = {}
        if not options.pairs_only:
            profilers = available(interpreter, options.profilers)
            loops = {name: LOOPS.get(name, LOOPS_OTHERWISE) for name in options.workloads}
            whole = counting.workload_instructions(
                interpreter.python, profilers, loops, jobs=options.jobs
            )
        path = results.save("instructions", interpreter, {"pairs": pairs, "workloads": whole})
        print(f"results: {path.relative_to(ROOT)}", file=sys.stderr)
    report.show("instructions")
    for line in exceeded:
        print(f"over budget: {line}", file=sys.stderr)
    return 1 if exceeded else 0


if __name__ == "__main__":
    sys.exit(main())
