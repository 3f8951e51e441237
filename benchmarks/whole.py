"""All of docs/benchmarks.md, its plots and README's figures by one command, in a given time.

    python -m benchmarks docs --python /usr/bin/python3.11 .venv/bin/python --minutes 25

Parts are measured one after the other, each in its share of the time; what times nothing (instructions, the
error of each tool's answer) may be measured beforehand, on a busy machine: `--parts instructions accuracy native-accuracy`. Each part
leaves JSON in build/benchmarks/results, and the page is written anew from all of it after each part. A part
that fails is told of on the page, and the others go on; the status is 1 then. `--resume` keeps what was measured of the same fastalloc.
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
    counting,
    growth,
    instructions,
    native_accuracy,
    overheads,
    report,
    results,
    services,
    startup,
    trackers,
)
from benchmarks.interpreters import Interpreter, absent_build, prepare_all
from benchmarks.profilers import PROFILERS
from benchmarks.turns import last_line
from benchmarks.workloads import WORKLOADS


class Part:
    """A part of the page: its share of the time, and what measures it: (builds, minutes, resume) -> what the page
    must tell of it, "" when all is well."""

    def __init__(
        self, name: str, share: float, measure: Callable[[list[Interpreter], float, bool], str]
    ) -> None:
        self.name, self.share, self.measure = name, share, measure


def _compare(builds: list[Interpreter], minutes: float, resume: bool) -> str:
    compare.run(
        builds,
        list(PROFILERS),
        list(WORKLOADS),
        launches=compare.MOST_LAUNCHES,
        rounds=compare.ROUNDS,
        round_seconds=0.02,
        minutes=minutes,
        cpus=sorted(os.sched_getaffinity(0)),
        resume=resume,
    )
    return ""


def _missing(kind: str, builds: list[Interpreter], resume: bool) -> list[Interpreter]:
    return [each for each in builds if not (resume and results.exists(kind, each))]


def _pythons(builds: list[Interpreter]) -> list[str]:
    return ["--python", *(str(each.python) for each in builds)]


def _status(status: int) -> str:
    return f"exit status {status}" if status else ""


def _overheads(builds: list[Interpreter], minutes: float, resume: bool) -> str:
    wanted = _missing("overheads", builds, resume)
    seconds = max(5.0, min(60.0, 60 * minutes / max(1, len(wanted)) - 45))
    arguments = [*_pythons(wanted), "--app-seconds", f"{seconds:.0f}"]
    return _status(overheads.main(arguments)) if wanted else ""


def _growth(builds: list[Interpreter], minutes: float, resume: bool) -> str:
    wanted = _missing("growth", builds, resume)
    return _status(growth.main(_pythons(wanted))) if wanted else ""


def _startup(builds: list[Interpreter], minutes: float, resume: bool) -> str:
    wanted = _missing("startup", builds, resume)
    for interpreter in wanted:
        startup.run(interpreter, minutes / len(wanted))
    return ""


def _trackers(builds: list[Interpreter], minutes: float, resume: bool) -> str:
    for interpreter in _missing("trackers", builds, resume):
        trackers.run(interpreter)
    return ""


def _services(builds: list[Interpreter], minutes: float, resume: bool) -> str:
    wanted = _missing("services", builds, resume)
    for interpreter in wanted:
        services.run(interpreter, minutes / len(wanted))
    return ""


def _instructions(builds: list[Interpreter], minutes: float, resume: bool) -> str:
    if counting.missing():
        return counting.missing()
    until, told = time.monotonic() + 60 * minutes, []
    for number, interpreter in enumerate(builds):
        left = max(0.0, until - time.monotonic()) / 60
        told += instructions.run(
            interpreter, minutes=left / (len(builds) - number), again=not resume
        )
    return "; ".join(told)


def _accuracy(builds: list[Interpreter], minutes: float, resume: bool) -> str:
    for interpreter in _missing("accuracy", builds, resume):
        accuracy.run(interpreter)
    return ""


def _native_accuracy(builds: list[Interpreter], minutes: float, resume: bool) -> str:
    for interpreter in _missing("native-accuracy", builds, resume):
        native_accuracy.run(interpreter, list(native_accuracy.LIBRARIES), native_accuracy.RUNS)
    return ""


PARTS = {
    part.name: part
    for part in (
        Part("compare", 0.48, _compare),
        Part("startup", 0.06, _startup),
        Part("overheads", 0.12, _overheads),
        Part("growth", 0.14, _growth),
        Part("trackers", 0.04, _trackers),
        Part("services", 0.12, _services),
        Part("accuracy", 0.04, _accuracy),
        Part("native-accuracy", 0.08, _native_accuracy),
        Part("instructions", 0.04, _instructions),
    )
}


def run(parts: Sequence[str], builds: list[Interpreter], minutes: float, resume: bool) -> int:
    """Measure the parts and write the page; 1 if one failed or has something to tell."""
    end = time.monotonic() + 60 * minutes
    shares = sum(PARTS[name].share for name in parts)
    failed = 0
    results.note("builds", absent_build(builds))
    for name in parts:
        part = PARTS[name]
        left = (end - time.monotonic()) / 60
        mine = max(0.5, left * part.share / shares) if shares > 0 else left
        shares -= part.share
        print(f"== {name}, {mine:.1f} of {left:.1f} minutes", file=sys.stderr, flush=True)
        try:
            told = part.measure(builds, mine, resume)
        except Exception as error:
            traceback.print_exc()
            told = f"{type(error).__name__}: {last_line(str(error).strip())}"
        results.note(name, told)
        if told:
            print(f"== {name}: {told}", file=sys.stderr, flush=True)
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
    builds = prepare_all(options.python)
    print(", ".join(each.label for each in builds), file=sys.stderr)
    if absent_build(builds):
        print(f"one kind of build only: {absent_build(builds)}", file=sys.stderr)
    return run(options.parts, builds, options.minutes, options.resume)


if __name__ == "__main__":
    sys.exit(main())
