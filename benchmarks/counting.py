"""Instructions, counted by valgrind: these do not depend on the machine's mood."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.interpreters import ROOT, compile_extension, environment

TIMES = 400_000
# Modes differ only after the heap was brought into its shape: whether a block lies in the first or
# the second part of its arena alone makes 4 instructions.
CHURN = """
import sys
folder, mode, scratch, domain, kind, size, times = sys.argv[1:]
sys.path.insert(0, folder)
import churn, fastalloc
fastalloc.start("light", native=domain == "libc", dir=scratch + "/recordings")
assert fastalloc.status().active, fastalloc.status().reason
for bytes in (24, 48, 96):
    churn.scatter(domain, bytes)
if mode == "none":
    fastalloc.stop()
else:
    fastalloc.configure({"mode": mode})
churn.churn(domain, kind, int(size), 1000)
churn.churn(domain, kind, int(size), int(times))
"""

CASES = {
    "OBJ malloc(48) + free": ("obj", "malloc", 48),
    "MEM malloc(48) + free": ("mem", "malloc", 48),
    "RAW malloc(48) + free": ("raw", "malloc", 48),
    "OBJ malloc(600) + free": ("obj", "malloc", 600),
    "OBJ calloc(48) + free": ("obj", "calloc", 48),
    "OBJ malloc(48) + realloc(96) + free": ("obj", "grow", 48),
    "OBJ malloc(48) + realloc(24) + free": ("obj", "shrink", 48),
    "MEM malloc(600) + realloc(1200) + free": ("mem", "grow", 600),
    "native malloc(48) + free": ("libc", "malloc", 48),
    "native malloc(48) + realloc(96) + free": ("libc", "grow", 48),
}


def missing() -> str:
    """Why nothing can be counted here; "" when it can."""
    if not shutil.which("valgrind"):
        return "valgrind is not installed"
    return ""


def count(command: list[str]) -> int:
    """Instructions that a command executes in all."""
    done = subprocess.run(
        [
            *("valgrind", "--tool=cachegrind", "--cache-sim=no"),
            "--cachegrind-out-file=/dev/null",
            *command,
        ],
        cwd=ROOT,
        env=environment(PYTHONHASHSEED="1"),
        capture_output=True,
        text=True,
    )
    found = re.search(r"I\s+refs:\s+([\d,]+)", done.stderr)
    if done.returncode or not found:
        raise RuntimeError(f"valgrind failed:\n{done.stderr[-2000:]}")
    return int(found[1].replace(",", ""))


def pair_instructions(
    python: Path, modes: list[str], cases: list[str] | None = None, jobs: int | None = None
) -> dict[str, dict[str, float]]:
    """Instructions of one allocation and free, by case and mode ("none", "light", ...).

    The difference between N more turns of the loop and none is N pairs and nothing else. Samples, one
    every 512 KiB, are in it, as they are in life.
    """
    names = list(cases or CASES)
    with (
        tempfile.TemporaryDirectory() as scratch,
        ThreadPoolExecutor(jobs or os.cpu_count()) as pool,
    ):
        compile_extension(python, "churn", scratch)

        def run(mode: str, case: str, times: int) -> int:
            arguments = [scratch, mode, scratch, *map(str, CASES[case]), str(times)]
            return count([str(python), "-c", CHURN, *arguments])

        warm_up = [scratch, "light", scratch, *map(str, CASES[names[0]]), "0"]
        subprocess.run(  # writes bytecode caches, where there are none yet
            [str(python), "-c", CHURN, *warm_up], cwd=ROOT, env=environment(), check=True
        )

        counts = {
            (case, mode, times): pool.submit(run, mode, case, times)
            for case in names
            for mode in modes
            for times in (0, TIMES)
        }
        return {
            case: {
                mode: (counts[case, mode, TIMES].result() - counts[case, mode, 0].result()) / TIMES
                for mode in modes
            }
            for case in names
        }


def workload_instructions(
    python: Path, profilers: list[str], loops: dict[str, int], jobs: int | None = None
) -> dict[str, dict[str, float]]:
    """Instructions of one loop of each workload, by profiler."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        ThreadPoolExecutor(jobs or os.cpu_count()) as pool,
    ):

        def run(profiler: str, workload: str, times: int) -> int:
            arguments = [profiler, workload, scratch, str(times)]
            return count([str(python), "-m", "benchmarks.worker", *arguments])

        for profiler, workload in itertools.product(profilers, loops):  # bytecode caches
            subprocess.run(
                [str(python), "-m", "benchmarks.worker", profiler, workload, scratch, "0"],
                cwd=ROOT,
                env=environment(),
                capture_output=True,
                check=True,
            )

        counts = {
            (workload, profiler, times): pool.submit(run, profiler, workload, times)
            for workload in loops
            for profiler in profilers
            for times in (0, loops[workload])
        }
        return {
            workload: {
                profiler: (
                    counts[workload, profiler, loops[workload]].result()
                    - counts[workload, profiler, 0].result()
                )
                / loops[workload]
                for profiler in profilers
            }
            for workload in loops
        }
