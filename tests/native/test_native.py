"""The C cases, each in a process of its own, under AddressSanitizer and ThreadSanitizer."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CASE = re.compile(r'^ +\{"([^"]+)",', re.MULTILINE)
CASES = [name for path in sorted(HERE.glob("*_cases.c")) for name in CASE.findall(path.read_text())]
OF_THREADS = [*CASE.findall((HERE / "thread_cases.c").read_text())]
OF_THREADS += CASE.findall((HERE / "watcher_cases.c").read_text())
OF_THREADS += CASE.findall((HERE / "guard_cases.c").read_text())
OF_THREADS.append("the filter never misses a block while others come and go")


def run(program: Path, folder: Path, case: str) -> None:
    suppressions = HERE / "thread_sanitizer.txt"
    environment = {
        **os.environ,
        # The core keeps what it maps for ever; leaks are not what is looked for.
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "TSAN_OPTIONS": f"suppressions={suppressions}:halt_on_error=1:die_after_fork=0",
    }
    done = subprocess.run(
        [program, folder, case],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-8000:]


@pytest.mark.parametrize("case", CASES)
def test_under_address_and_undefined_behaviour_sanitizers(
    native_program: Callable[[str, str], Path], tmp_path: Path, case: str
) -> None:
    run(native_program("main.c", "address"), tmp_path, case)


@pytest.mark.parametrize("case", OF_THREADS)
def test_under_thread_sanitizer(
    native_program: Callable[[str, str], Path], tmp_path: Path, case: str
) -> None:
    run(native_program("main.c", "thread"), tmp_path, case)


@pytest.mark.parametrize("case", OF_THREADS)
def test_threads_as_compiled_for_release(
    native_program: Callable[[str, str], Path], tmp_path: Path, case: str
) -> None:
    """Optimised, and without a sanitizer's barriers: also where there is none, as under emulation."""
    run(native_program("main.c", "none"), tmp_path, case)


def test_all_cases_of_the_program_are_known_here(
    native_program: Callable[[str, str], Path],
) -> None:
    listed = subprocess.run(
        [native_program("main.c", "none")], capture_output=True, text=True, check=True
    )
    assert sorted(listed.stdout.split("\n")[:-1]) == sorted(CASES)
