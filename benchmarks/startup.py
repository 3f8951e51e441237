"""What each profiler adds to the start of a process: import and start, beside none, in turns.

CPU time (user and system) and resident memory of a whole process that starts the profiler and ends.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import results
from benchmarks.compare import available
from benchmarks.interpreters import FOLDER, ROOT, Interpreter, environment, prepare_all
from benchmarks.profilers import PROFILERS
from benchmarks.tables import Table
from benchmarks.turns import said

WORKLOAD = "nothing"
LEAST = 3
MOST = 25
LIMIT_SECONDS = 60


def once(interpreter: Interpreter, profiler: str, scratch: str) -> dict[str, float] | str:
    """One process; or why it failed."""
    command = PROFILERS[profiler].command(scratch)
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [str(interpreter.python), *command, profiler, WORKLOAD, scratch, "0"],
            cwd=ROOT,
            env=environment(PYTHONHASHSEED="1", PYTHONPATH=str(ROOT)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            if time.perf_counter() - began > LIMIT_SECONDS:
                process.kill()
            time.sleep(0.001)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            return said(process.returncode, errors.read())
    return {
        "cpu_ms": (usage.ru_utime + usage.ru_stime) * 1e3,
        "wall_ms": (time.perf_counter() - began) * 1e3,
    }


def run(interpreter: Interpreter, minutes: float, profilers: list[str] | None = None) -> Path:
    """Measure in turns until the time is up, and save the medians of what is added to none."""
    names = available(interpreter, profilers or list(PROFILERS))
    values: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    failed: dict[str, str] = {}
    until = time.monotonic() + 60 * minutes
    for turn in range(MOST + 1):  # the first, which may write bytecode caches, is left out
        if turn > LEAST and time.monotonic() > until:
            break
        for name in names:
            if name in failed:
                continue
            with tempfile.TemporaryDirectory(dir=FOLDER) as scratch:
                found = once(interpreter, name, scratch)
            if isinstance(found, str):
                failed[name] = found
                print(f"{interpreter.label}: {name} FAILED: {found}", file=sys.stderr)
            elif turn:
                values[name].append(found)
    return results.save("startup", interpreter, {"processes": values, "failed": failed})


def table(documents: list[dict[str, Any]]) -> Table:
    """One row per profiler."""
    parts = ("CPU ms", "wall ms")
    shown = Table(
        "Start of a process: what is added",
        ["", *(f"{d['interpreter']['label']}: {part}" for d in documents for part in parts)],
        note="Import, start, and the end of a process that does nothing else; none: in all. Median of "
        + " and ".join(str(len(d["processes"]["none"])) for d in documents)
        + " processes, in turns.",
    )
    for name, profiler in PROFILERS.items():
        row = [profiler.title]
        for document in documents:
            values, none = document["processes"].get(name), document["processes"]["none"]
            for key in ("cpu_ms", "wall_ms"):
                if not values:
                    row.append("failed" if name in document["failed"] else "-")
                    continue
                pairs = zip(values, none, strict=False)
                median = statistics.median(
                    a[key] - (b[key] if name != "none" else 0) for a, b in pairs
                )
                row.append(f"{median:.1f}")
        if any(cell != "-" for cell in row[1:]):
            shown.rows.append(row)
    return shown


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks startup", description=__doc__)
    parser.add_argument(
        "--python", nargs="+", default=[sys.executable], help="interpreters (default: this one)"
    )
    parser.add_argument("--minutes", type=float, default=2, help="of each interpreter (2)")
    options = parser.parse_args(arguments)
    for interpreter in prepare_all(options.python):
        run(interpreter, options.minutes)
    table(results.load("startup")).show()
    return 0
