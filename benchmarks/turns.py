"""One launch of one workload: a process per profiler, taking turns on one CPU, each turn in an order of its own.

What went before leaves its traces in the caches, so nobody shall follow the same one always, nor "control" be always
beside none. The order is drawn by a generator seeded with the launch: the same again in the next run.

A profiler that cannot start, fails or hangs is noted with what it said, and the turns go on without it.
"""

from __future__ import annotations

import json
import random
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks import lot
from benchmarks.interpreters import FOLDER, ROOT, Interpreter, environment
from benchmarks.profilers import PROFILERS

ANSWER_SECONDS = 90.0
"""A process that is silent for so long has failed."""
SAID_CHARACTERS = 4000
"""What is kept of stderr: its end, a traceback long."""


class WorkerError(Exception):
    """A measured process failed; says how."""


class Worker:
    """One measured process, and its answers. A context manager."""

    def __init__(
        self, python: Path, profiler: str, workload: str, scratch: str, seed: int, cpu: int | None
    ) -> None:
        pin = ["taskset", "--cpu-list", str(cpu)] if cpu is not None else []
        self.profiler = PROFILERS[profiler]
        self.scratch = Path(scratch) / profiler
        self.scratch.mkdir()
        self._errors = open(self.scratch.with_suffix(".stderr"), "w+")  # noqa: SIM115
        command = self.profiler.command(str(self.scratch))
        self.process = subprocess.Popen(
            [*pin, str(python), *command, profiler, workload, str(self.scratch)],
            cwd=ROOT,
            env=environment(
                PYTHONHASHSEED=str(seed),
                PYTHONPATH=str(ROOT),
                **{lot.VARIABLE: f"{workload} {profiler} {seed}"},
            ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.communicate()
        self._errors.close()

    def ready(self) -> float:
        """Wait for the end of the warm-up; bytes of memory that the profiler's start took."""
        return float(self._answer()["start_rss_bytes"])

    def seconds(self, loops: int) -> float:
        """CPU seconds of one loop."""
        assert self.process.stdin
        try:
            self.process.stdin.write(f"{loops}\n")
            self.process.stdin.flush()
        except OSError as error:
            raise WorkerError(self._said()) from error
        return float(self._answer()["seconds"]) / loops

    def peak_rss_bytes(self) -> float:
        """Asks for no more work; the process goes on to its end."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.stdin = None
        return float(self._answer()["peak_rss_bytes"])

    def written_bytes(self) -> float:
        """What it has on disk, blocks of files."""
        files = (path for path in self.scratch.rglob("*") if path.is_file())
        return 512.0 * sum(path.stat().st_blocks for path in files)

    def written_at_end_bytes(self) -> float:
        """What it has on disk once it ended: some profilers write only then."""
        try:
            self.process.communicate(timeout=ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            raise WorkerError(f"did not end within {ANSWER_SECONDS:.0f} s") from None
        return self.written_bytes()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout
        watchdog = threading.Timer(ANSWER_SECONDS, self.process.kill)
        watchdog.start()
        try:
            for line in self.process.stdout:
                if line.startswith("{"):  # the rest is what the profiler itself says
                    return dict(json.loads(line))
        finally:
            watchdog.cancel()
        raise WorkerError(self._said())

    def _said(self) -> str:
        self.process.wait()
        self._errors.seek(0)
        return said(self.process.returncode, self._errors.read())


def said(status: int, errors: str) -> str:
    """Why a process failed: its status, and the end of what it wrote on stderr."""
    return f"exit status {status}: {errors.strip()[-SAID_CHARACTERS:] or 'silent'}"


def last_line(why: str) -> str:
    """Of why a process failed: what a table has room for."""
    status, _, errors = why.partition(": ")
    return f"{status}: {errors.splitlines()[-1][:200]}" if errors else status[:200]


def launch(
    interpreter: Interpreter,
    profilers: list[str],
    workload: str,
    number: int,
    *,
    until: float,
    rounds: int,
    least_rounds: int,
    round_seconds: float,
    cpu: int | None,
) -> dict[str, Any]:
    """Measure until `rounds` rounds are done, or the monotonic clock says `until` (yet at least `least_rounds`).

    Gives seconds of each round by profiler (None: took no part), memory, bytes on disk, and what failed.
    Raises WorkerError if the process without a profiler fails: there is nothing to compare with then.
    """
    failed: dict[str, str] = {}
    seconds: dict[str, list[float | None]] = {name: [] for name in profilers}
    memory: dict[str, dict[str, float]] = {"start": {}, "peak": {}, "written": {}}
    with tempfile.TemporaryDirectory(dir=FOLDER) as scratch, ExitStack() as stack:
        workers: dict[str, Worker] = {}

        def attempt(name: str, what: Callable[[Worker], float]) -> float | None:
            if name not in workers:
                return None
            try:
                return what(workers[name])
            except WorkerError as error:
                failed[name] = str(error)
                del workers[name]
                return None

        for name in profilers:
            worker = Worker(interpreter.python, name, workload, scratch, number + 1, cpu)
            workers[name] = stack.enter_context(worker)
        for name in profilers:
            value = attempt(name, Worker.ready)
            if value is not None and not PROFILERS[name].starts_process:
                memory["start"][name] = value
        if "none" in failed:
            raise WorkerError(f"{workload} without a profiler: {failed['none']}")
        loops = max(1, round(round_seconds / workers["none"].seconds(4)))
        for turn, order in enumerate(orders(profilers, f"{workload}-{number}", rounds)):
            if turn >= least_rounds and time.monotonic() > until:
                break
            for name in order:
                seconds[name].append(attempt(name, lambda worker: worker.seconds(loops)))
        for name in list(workers):
            running = attempt(name, Worker.written_bytes)
            peak = attempt(name, Worker.peak_rss_bytes)
            ended = attempt(name, Worker.written_at_end_bytes)
            if peak is not None and running is not None and ended is not None:
                memory["peak"][name] = peak
                memory["written"][name] = max(running, ended)
    return {
        "workload": workload,
        "launch": number,
        "loops": loops,
        "seconds": {n: s for n, s in seconds.items() if any(s)},
        "memory": memory,
        "failed": failed,
    }


def orders(names: Sequence[str], seed: str, count: int) -> Iterator[list[str]]:
    """The names in `count` random orders, the same for the same seed."""
    generator = random.Random(seed)
    return (generator.sample(names, len(names)) for _ in range(count))
