"""One launch of one workload: a process per profiler, taking turns (A B C A B C ...) on one CPU.

A profiler that cannot start, fails or hangs is noted with what it said, and the turns go on without it.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.interpreters import FOLDER, ROOT, Interpreter, environment
from benchmarks.profilers import PROFILERS

SLOW = 8
"""Slow profilers take part in one of so many turns: their ratios are large, and need no more."""
LEAST_ROUNDS = 8
ANSWER_SECONDS = 90.0
"""A process that is silent for so long has failed."""


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
            env=environment(PYTHONHASHSEED=str(seed), PYTHONPATH=str(ROOT)),
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
        """Ends the process."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.stdin = None
        return float(self._answer()["peak_rss_bytes"])

    def written_bytes(self) -> float:
        """What it has on disk, blocks of files."""
        files = (path for path in self.scratch.rglob("*") if path.is_file())
        return 512.0 * sum(path.stat().st_blocks for path in files)

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
        lines = self._errors.read().strip().splitlines()
        return f"exit status {self.process.returncode}: {lines[-1][:200] if lines else 'silent'}"


def launch(
    interpreter: Interpreter,
    profilers: list[str],
    workload: str,
    number: int,
    *,
    until: float,
    rounds: int,
    round_seconds: float,
    cpu: int | None,
) -> dict[str, Any]:
    """Measure until `rounds` rounds are done, or the monotonic clock says `until` (yet at least LEAST_ROUNDS).

    Gives seconds of each round by profiler (None: took no part), memory, bytes on disk, and what failed.
    """
    failed: dict[str, str] = {}
    seconds: dict[str, list[float | None]] = {name: [] for name in profilers}
    memory: dict[str, dict[str, float]] = {"start": {}, "peak": {}, "written": {}}
    with tempfile.TemporaryDirectory(dir=FOLDER) as scratch, ExitStack() as stack:
        workers: dict[str, Worker] = {}

        def attempt(name: str, what: Any) -> float | None:
            try:
                return float(what())
            except WorkerError as error:
                failed[name] = str(error)
                workers.pop(name, None)
                return None

        for name in profilers:
            worker = Worker(interpreter.python, name, workload, scratch, number + 1, cpu)
            workers[name] = stack.enter_context(worker)
        for name in profilers:
            if (value := attempt(name, workers[name].ready)) is not None:
                memory["start"][name] = value
        if "none" in failed:
            raise WorkerError(f"{workload} without a profiler: {failed['none']}")
        loops = max(1, round(round_seconds / workers["none"].seconds(4)))
        for turn in range(rounds):
            if turn >= LEAST_ROUNDS and time.monotonic() > until:
                break
            first = (turn * 3 + number) % len(profilers)
            for name in (*profilers[first:], *profilers[:first]):
                takes_part = turn % SLOW == 0 or not PROFILERS[name].slow
                mine = workers.get(name) if takes_part else None
                value = attempt(name, lambda w=mine: w.seconds(loops)) if mine else None
                seconds[name].append(value)
        for name, worker in list(workers.items()):
            memory["written"][name] = worker.written_bytes()
            if (value := attempt(name, worker.peak_rss_bytes)) is not None:
                memory["peak"][name] = value
    return {
        "workload": workload,
        "launch": number,
        "loops": loops,
        "seconds": {n: s for n, s in seconds.items() if any(s)},
        "memory": memory,
        "failed": failed,
    }
