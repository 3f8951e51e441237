"""A few of CPython's own test modules end under recording as they do without; tools/test-cpython runs them all."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.util import find_spec

import pytest

from tests.core.programs import ROOT

TOOL = ROOT / "tools" / "cpython" / "suite.py"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not TOOL.exists(), reason="tools/ is not here"),
    pytest.mark.skipif(find_spec("test.test_dict") is None, reason="this Python has no tests"),
]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(TOOL), *arguments], capture_output=True, text=True, timeout=300
    )


def test_no_test_of_a_few_modules_ends_differently() -> None:
    done = run("--quick")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_dict" in done.stdout and "no test ends differently" in done.stdout


def test_a_difference_is_seen() -> None:
    # Known, and by that the proof that the tests run recorded and are compared.
    done = run("--modes", "targeted", "test_threading", "--match", "*from_another_thread")
    counted = done.stdout.strip().splitlines()[-1]
    assert "none: 3 passed; targeted: 3 failed" in counted, done.stdout + done.stderr
    known = tomllib.loads((TOOL.parent / "known.toml").read_text())["test"]
    assert counted.partition(":")[0] in {entry["name"] for entry in known}
