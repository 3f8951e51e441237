"""Running a program in a process of its own: hooks are one per process."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import fastalloc

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastalloc.recording.snapshot import Snapshot

ROOT = Path(__file__).parent.parent.parent
PACKAGE_PARENT = Path(fastalloc.__file__).parent.parent
PATIENCE = float(os.environ.get("TEST_PATIENCE", "1"))  # emulated machines are many times slower


def memory_can_be_limited() -> bool:
    """Whether RLIMIT_AS is more than taken note of."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    much = (1 << 46 if before[1] == resource.RLIM_INFINITY else before[1]) - 4096
    resource.setrlimit(resource.RLIMIT_AS, (much, before[1]))
    held = resource.getrlimit(resource.RLIMIT_AS)[0]
    resource.setrlimit(resource.RLIMIT_AS, before)
    return held == much


# Not to be left out lightly: a program that allocates until it is refused would take all of the machine's memory.
needs_memory_limit = pytest.mark.skipif(
    not memory_can_be_limited(),
    reason="RLIMIT_AS has no effect here: qemu's user-mode emulation ignores it",
)

# What a program with this environment frees goes back to the kernel at once. Else the top of malloc's heap may hold it,
# and qemu's user-mode emulation, too, keeps what malloc gives back by brk.
GIVES_BACK = {"MALLOC_MMAP_THRESHOLD_": "32768"}


@dataclass
class Finished:
    """A program that has ended."""

    returncode: int
    stdout: str
    stderr: str
    directory: Path
    answer: dict[str, Any] = field(default_factory=dict)

    @property
    def recordings(self) -> list[Path]:
        """All recordings it left, the oldest first."""
        found = self.directory.glob("*.recording")
        return sorted(found, key=lambda path: (int(path.stem.rsplit("-", 1)[1]), path.name))

    def snapshot(self, pid: int | None = None) -> Snapshot:
        """Of its last recording, or of the last one of the process `pid`."""
        wanted = [p for p in self.recordings if pid is None or f"-{pid}-" in p.name]
        assert wanted, f"no recording among {self.recordings}\n{self.stderr}"
        return fastalloc.read(wanted[-1])


class Programs:
    """Runs programs whose recordings go to one folder each, below `base`."""

    def __init__(self, base: Path, allocator: Path) -> None:
        self.base, self.allocator, self.runs = base, allocator, 0

    def environment(self, directory: Path, env: Mapping[str, str]) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("FASTALLOC_", "PYTEST_"))}
        path = os.pathsep.join([str(PACKAGE_PARENT), str(ROOT)])
        return {
            **kept,
            "PYTHONPATH": path,
            "PYTHONFAULTHANDLER": "1",
            "FASTALLOC_DIR": str(directory),
            "FASTALLOC_OVERHEAD_PERCENT": "0",  # the interval stays as the program has it
            "TEST_ALLOCATOR": str(self.allocator),
            **env,
        }

    def start(
        self, source: str, *, env: Mapping[str, str] | None = None, python: str = sys.executable
    ) -> subprocess.Popen[str]:
        """Start a program; `process.directory` is where its recordings go."""
        self.runs += 1
        directory = self.base / f"recordings-{self.runs}"
        process: Any = subprocess.Popen(
            [python, "-c", textwrap.dedent(source)],
            cwd=self.base,
            env=self.environment(directory, env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        process.directory = directory
        return process

    def run(
        self,
        source: str,
        *,
        env: Mapping[str, str] | None = None,
        python: str = sys.executable,
        timeout: float = 120,
        returncode: int | None = 0,
    ) -> Finished:
        """Run a program to its end. It must end with `returncode` (None: any)."""
        process: Any = self.start(source, env=env, python=python)
        try:
            stdout, stderr = process.communicate(timeout=timeout * PATIENCE)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # faulthandler says where it hangs
            try:
                stdout, stderr = process.communicate(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                stdout, stderr = process.communicate()
            raise AssertionError(f"the program hangs\n{stdout}\n{stderr}") from None
        done = Finished(process.returncode, stdout, stderr, process.directory)
        if returncode is not None:
            assert done.returncode == returncode, (
                f"ended with {done.returncode}\n{stdout}\n{stderr}"
            )
        answers = [line for line in stdout.splitlines() if line.startswith("{")]
        if answers:
            done.answer = json.loads(answers[-1])
        return done
