"""The fixture fastalloc_overhead, in runs of pytest of their own."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PLUGIN = ["-p", "no:fastalloc", "-p", "fastalloc.integrations.pytest"]  # installed or not
PLUGIN += ["-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:benchmark"]


def run(folder: Path, text: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A test file in a process of its own."""
    (folder / "test_it.py").write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *PLUGIN, "--rootdir", str(folder), "test_it.py"],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT / "src"), **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_bytes_and_peak_of_a_function_are_told(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
def work():
    for _ in range(10):
        kept = [bytes(100_000 - 33) for _ in range(3)]
        del kept

def test_it(fastalloc_overhead):
    overhead = fastalloc_overhead(work, rounds=5)
    assert overhead.rounds == 5 and overhead.calls >= 1
    assert 0 < overhead.low <= overhead.ratio <= overhead.high
    assert overhead.noise > 0 and overhead.seconds > 0
    assert 3_000_000 <= overhead.allocated_bytes < 3_100_000
    assert 30 <= overhead.allocated_count < 300
    assert 300_000 <= overhead.peak_bytes < 400_000
    assert overhead.lost_count == 0
""",
    )
    assert done.returncode == 0, done.stdout


def test_a_test_can_fail_by_it(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
def test_it(fastalloc_overhead):
    assert fastalloc_overhead(lambda: bytes(50_000), rounds=3).allocated_bytes < 10_000
""",
    )
    assert done.returncode == 1 and "allocated_bytes=50033" in done.stdout, done.stdout


def test_what_the_function_raises_comes_out_and_the_recorder_is_off_again(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
import fastalloc, pytest
def test_it(fastalloc_overhead):
    with pytest.raises(ZeroDivisionError):
        fastalloc_overhead(lambda: 1 / 0)
    assert not fastalloc.status().active
    assert fastalloc_overhead(lambda: bytes(100), rounds=3, mode="aggressive").calls > 1
    assert not fastalloc.status().active
""",
    )
    assert done.returncode == 0, done.stdout


def test_a_recorded_process_is_refused(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
import fastalloc, pytest
def test_it(fastalloc_overhead, tmp_path):
    fastalloc.start(dir=str(tmp_path / "recordings"))
    with pytest.raises(RuntimeError, match="recorded already"):
        fastalloc_overhead(lambda: None)
    assert fastalloc.status().active
""",
    )
    assert done.returncode == 0, done.stdout


def test_the_plugin_alone_starts_nothing_and_loads_nothing_of_the_reading_wing(
    tmp_path: Path,
) -> None:
    done = run(
        tmp_path,
        """
import sys, threading
def test_it():
    import fastalloc
    assert fastalloc.status().state == "empty"
    assert not {"numpy", "rich", "fastalloc.recording", "fastalloc.requests"} & set(sys.modules)
    assert threading.active_count() == 1
""",
    )
    assert done.returncode == 0, done.stdout


def test_the_package_tells_pytest_of_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"fastalloc": "fastalloc.integrations.pytest"}


@pytest.mark.parametrize("name", ["ratio", "allocated_bytes", "peak_bytes", "noise", "lost_count"])
def test_the_page_tells_what_the_fixture_gives(name: str) -> None:
    assert f"`{name}`" in (ROOT / "docs" / "pytest.md").read_text()
