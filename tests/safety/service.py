"""A service to act on: a process with threads that allocate in spans, and answers questions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastalloc

PACKAGE_PARENT = Path(fastalloc.__file__).parent.parent

PROGRAM = """
import faulthandler, json, os, sys, threading, time
faulthandler.dump_traceback_later(120, exit=True)
import fastalloc
fastalloc.start()
kept = [bytes(10_000) for _ in range(1000)]
pause = 0.001
done = 0
def work():
    global done
    while True:
        with fastalloc.span("work"):
            blocks = [bytes(5_000) for _ in range(200)]
        done += 1
        time.sleep(pause)
for n in range(3):
    threading.Thread(target=work, daemon=True, name=f"worker {n}").start()
def counted():
    "Allocations of this thread that went through our hooks, of 1000."
    from fastalloc import _core
    before = _core.thread_totals()[0]
    blocks = [bytes(600) for _ in range(1000)]
    return _core.thread_totals()[0] - before
SETUP
print(json.dumps(os.getpid()), flush=True)
for line in sys.stdin:
    try:
        answer = eval(line)
    except Exception as error:
        answer = {"raised": repr(error)}
    print(json.dumps(answer), flush=True)
os._exit(0)
"""


class Service:
    """A running PROGRAM. `ask(expression)` evaluates it there; `pid`, `directory`."""

    def __init__(self, directory: Path, setup: str = "", **options: object) -> None:
        self.directory = directory
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("FASTALLOC_", "PYTEST_"))}
        given = {f"FASTALLOC_{name.upper()}": str(value) for name, value in options.items()}
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM.replace("SETUP", setup)],
            env={
                **kept,
                "PYTHONPATH": str(PACKAGE_PARENT),
                "FASTALLOC_DIR": str(directory),
                **given,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._answer()

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def ask(self, expression: str) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()
        answer = self._answer()
        assert not (isinstance(answer, dict) and "raised" in answer), answer
        return answer

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the service has ended with {self.process.wait()}"
        return json.loads(line)

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.ask("fastalloc.status().to_dict()")
        return status

    def is_on(self) -> bool:
        """Samples are taken, and the hooks are there."""
        return bool(self.status()["active"]) and self.ask("counted()") >= 1000

    def is_off(self) -> bool:
        """No samples, no hooks, and the program goes on."""
        done = self.ask("done")
        wait_until(lambda: self.ask("done") > done, 5)
        return not self.status()["active"] and self.ask("counted()") == 0

    def breaker(self, layer: str) -> dict[str, Any]:
        found = [each for each in self.status()["breakers"] if each["layer"] == layer]
        return found[0] if found else {"state": "none"}

    @property
    def recording(self) -> Path:
        (path,) = self.directory.glob(f"fastalloc-{self.pid}-*.recording")
        return path


def wait_until(holds: Callable[[], object], seconds: float) -> float:
    """In how many seconds `holds()` came true; AssertionError if it does not in time."""
    begun = time.monotonic()
    while not holds():
        assert time.monotonic() - begun < seconds, f"not within {seconds} s"
        time.sleep(0.02)
    return time.monotonic() - begun
