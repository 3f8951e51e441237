"""Instructions, counted by valgrind: these do not depend on the machine's mood."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.interpreters import ROOT, compile_extension, environment
from benchmarks.turns import last_line, said

TIMES = 400_000
SAMPLED_TIMES = 20_000
"""Of variants in which every allocation is a sample."""

# Modes differ only after the heap was brought into its shape: whether a block lies in the first or
# the second part of its arena alone makes 4 instructions.
CHURN = """
import sys
from contextlib import nullcontext
folder, variant, scratch, domain, kind, size, times = sys.argv[1:]
sys.path.insert(0, folder)
import churn, fastalloc
from benchmarks.counting import VARIANTS
options = dict(VARIANTS[variant])
mode, inside, interval = (options.pop(key, None) for key in ("mode", "inside", "interval_bytes"))
hooks, depth = options.pop("hooks", None), options.pop("depth", 0)
fastalloc.start("light", native=domain == "libc", dir=scratch + "/recordings", overhead_percent=0, **options)
assert fastalloc.status().active, fastalloc.status().reason
for bytes in (24, 48, 96):
    churn.scatter(domain, bytes)
if mode:
    fastalloc.configure({"mode": mode} | ({"interval_bytes": interval} if interval else {}))
else:
    fastalloc.stop()
if hooks:
    from benchmarks.profilers import PROFILERS
    PROFILERS[hooks].start(scratch)
def run(depth, times):
    return run(depth - 1, times) if depth else churn.churn(domain, kind, int(size), times)
with fastalloc.span("GET /") if inside else nullcontext():
    run(depth, 1000)
    run(depth, int(times))
"""

VARIANTS: dict[str, dict[str, Any]] = {
    "none": {},
    "standby": {"mode": "standby"},
    "light": {"mode": "light"},
    "aggressive": {"mode": "aggressive"},
    "forward": {"hooks": "forward"},
    "forward_all": {"hooks": "forward_all"},
    "ddtrace": {"hooks": "ddtrace"},
    # the layers of light mode, see layers.py
    "counters": {"mode": "light", "interval_bytes": 1 << 40},
    "shallow": {"mode": "light", "max_frames": 1},
    "span": {"mode": "light", "inside": "span"},
    "each": {"mode": "light", "interval_bytes": 1},
    "each, 30 frames": {"mode": "light", "interval_bytes": 1, "depth": 30},
    "each, C frames": {"mode": "light", "interval_bytes": 1, "native_frames": 16},
}
"""How the loop is run: in a mode of fastalloc, inside a span, so many calls deep; or with a profiler's hooks."""

PACKAGES = {"ddtrace": "ddtrace"}
"""Variants that need a package."""

CASES = {
    "OBJ malloc(48) + free": ("obj", "malloc", 48),
    "MEM malloc(48) + free": ("mem", "malloc", 48),
    "RAW malloc(48) + free": ("raw", "malloc", 48),
    "OBJ malloc(600) + free": ("obj", "malloc", 600),
    "OBJ calloc(48) + free": ("obj", "calloc", 48),
    "MEM calloc(48) + free": ("mem", "calloc", 48),
    "RAW calloc(48) + free": ("raw", "calloc", 48),
    "OBJ malloc(48) + realloc(96) + free": ("obj", "grow", 48),
    "OBJ malloc(48) + realloc(24) + free": ("obj", "shrink", 48),
    "MEM malloc(600) + realloc(1200) + free": ("mem", "grow", 600),
    "RAW malloc(48) + realloc(96) + free": ("raw", "grow", 48),
    "native malloc(48) + free": ("libc", "malloc", 48),
    "native calloc(48) + free": ("libc", "calloc", 48),
    "native malloc(48) + realloc(96) + free": ("libc", "grow", 48),
    "native mmap(64 KiB) + munmap": ("libc", "map", 65536),
}
PAIR = "OBJ malloc(48) + free"
"""The commonest path: most of what Python allocates is small."""
NATIVE_PAIR = "native malloc(48) + free"

Counts = dict[str, dict[str, float]]
"""Instructions by case or workload, and variant or profiler."""


def missing() -> str:
    """Why nothing can be counted here; "" when it can."""
    if not shutil.which("valgrind"):
        return "valgrind is not installed"
    return ""


def _cachegrind(command: list[str], out: str, paths: Sequence[Path]) -> str:
    """Run it to its end; what valgrind said."""
    done = subprocess.run(
        [
            *("valgrind", "--tool=cachegrind", "--cache-sim=no"),
            f"--cachegrind-out-file={out}",
            *command,
        ],
        cwd=ROOT,
        env=_environment(paths),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"valgrind failed: {said(done.returncode, done.stderr)}")
    return done.stderr


def count(command: list[str], paths: Sequence[Path] = ()) -> int:
    """Instructions that a command executes in all. RuntimeError: it failed."""
    told = _cachegrind(command, "/dev/null", paths)
    found = re.search(r"I\s+refs:\s+([\d,]+)", told)
    if not found:
        raise RuntimeError(f"valgrind said nothing of instructions: {last_line(told)}")
    return int(found[1].replace(",", ""))


def count_by_file(command: list[str]) -> Counter[str]:
    """Instructions that a command executes, by source file, as far as debug information tells; "" is the rest."""
    found: Counter[str] = Counter()
    with tempfile.NamedTemporaryFile("r") as out:
        _cachegrind(command, out.name, ())
        file = ""
        for line in out:
            if line.startswith("fl="):
                file = Path(line[3:].strip()).name.strip("?")
            elif line[0].isdigit():  # of a source line: its number, its instructions
                found[file] += int(line.split()[1])
    return found


def sample_instructions(python: Path, variant: str) -> dict[str, float]:
    """Instructions of one allocation and free by source file, of a variant in which each is a sample."""
    with tempfile.TemporaryDirectory() as scratch:
        compile_extension(python, "churn", scratch)

        def command(times: int) -> list[str]:
            arguments = [scratch, variant, scratch, *map(str, CASES[PAIR]), str(times)]
            return [str(python), "-c", CHURN, *arguments]

        if why := _warm_up(command(0)):
            raise RuntimeError(why)
        with_loops, without = count_by_file(command(SAMPLED_TIMES)), count_by_file(command(0))
    with_loops.subtract(without)
    # what fastalloc's own thread did meanwhile is not of the loop: it is less than half an instruction
    return {
        file: each / SAMPLED_TIMES
        for file, each in with_loops.most_common()
        if each >= SAMPLED_TIMES / 2
    }


def pair_instructions(
    python: Path,
    variants: Sequence[str],
    cases: Sequence[str] = (),
    jobs: int | None = None,
    compiler: Path | None = None,
    paths: Sequence[Path] = (),
) -> tuple[Counts, dict[str, str]]:
    """Instructions of one allocation and free, by case and variant; and by variant, why it could not be counted.

    The difference between N more turns of the loop and none is N pairs and nothing else. Samples, one
    every 512 KiB, are in it, as they are in life. `compiler` is the interpreter to compile for, where it is another
    of the same version; `paths` are searched for modules, besides what the interpreter has.
    """
    names = cases or tuple(CASES)
    with (
        tempfile.TemporaryDirectory() as scratch,
        ThreadPoolExecutor(jobs or len(os.sched_getaffinity(0))) as pool,
    ):
        compile_extension(compiler or python, "churn", scratch)

        def command(variant: str, case: str, times: int) -> list[str]:
            arguments = [scratch, variant, scratch, *map(str, CASES[case]), str(times)]
            return [str(python), "-c", CHURN, *arguments]

        failed = {v: why for v in variants if (why := _warm_up(command(v, names[0], 0), paths))}
        every = [(case, variant) for case in names for variant in variants if variant not in failed]
        work = {
            key: (
                partial(command, key[1], key[0]),
                SAMPLED_TIMES if VARIANTS[key[1]].get("interval_bytes") == 1 else TIMES,
            )
            for key in every
        }
        return _counted(work, pool, failed, paths)


def workload_instructions(
    python: Path, profilers: Sequence[str], workload: str, loops: int, jobs: int | None = None
) -> tuple[Counts, dict[str, str]]:
    """Instructions of one loop of a workload, by profiler; and by profiler, why it could not be counted."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        ThreadPoolExecutor(jobs or len(os.sched_getaffinity(0))) as pool,
    ):

        def command(profiler: str, times: int) -> list[str]:
            arguments = [profiler, workload, scratch, str(times)]
            return [str(python), "-m", "benchmarks.worker", *arguments]

        failed = {name: why for name in profilers if (why := _warm_up(command(name, 0)))}
        work = {
            (workload, name): (partial(command, name), loops)
            for name in profilers
            if name not in failed
        }
        return _counted(work, pool, failed)


def _environment(paths: Sequence[Path]) -> dict[str, str]:
    searched = os.pathsep.join(map(str, (*paths, ROOT)))
    return environment(PYTHONHASHSEED="1", PYTHONPATH=searched)


def _warm_up(command: list[str], paths: Sequence[Path] = ()) -> str:
    """Write bytecode caches, where there are none yet; why the command fails, or ""."""
    done = subprocess.run(
        command, cwd=ROOT, env=_environment(paths), capture_output=True, text=True
    )
    return said(done.returncode, done.stderr) if done.returncode else ""


def _counted(
    work: dict[tuple[str, str], tuple[Callable[[int], list[str]], int]],
    pool: ThreadPoolExecutor,
    failed: dict[str, str],
    paths: Sequence[Path] = (),
) -> tuple[Counts, dict[str, str]]:
    """Count each command with its loops and with none, at the same time."""
    runs = {
        key: (*(pool.submit(count, command(times), paths) for times in (loops, 0)), loops)
        for key, (command, loops) in work.items()
    }
    found: Counts = {}
    for (row, column), (with_loops, without, loops) in runs.items():
        try:
            added = with_loops.result() - without.result()
        except RuntimeError as error:
            failed[column] = f"{row}: {error}"
        else:
            found.setdefault(row, {})[column] = added / loops
    return found, failed
