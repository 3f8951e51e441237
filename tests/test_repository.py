"""What is tracked holds no trace of the machine it was written on."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BINARY = {".png", ".svg", ".gif", ".jpg", ".ico", ".bin", ".gz", ".whl", ".recording"}

# Joined from parts, so that this file does not hold what it looks for.
# A home of one letter is nobody's: tests need one.
MACHINE_PATHS = re.compile(
    r"(?<![\w.])(?:"
    + "|".join(("/ro" + "ot/", "/ho" + r"me/\w\w+", "/Us" + r"ers/\w\w+", "/wo" + "rk/"))
    + ")"
)
INDEX_OPTIONS = ("--(?:extra-)?index" + "-url", "--find" + "-links", "--trusted" + "-host")
INDEXES = re.compile("|".join(INDEX_OPTIONS))
LICENCE_LIKE = {"LICENSE"}


def tracked_files() -> list[Path]:
    """The files that git tracks; none outside a checkout."""
    if not shutil.which("git") or not (ROOT / ".git").exists():
        return []
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    paths = [ROOT / name for name in listing.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]


def find_all(pattern: re.Pattern[str]) -> list[str]:
    """Every place in the tracked text files where `pattern` occurs."""
    found = []
    for path in tracked_files():
        if path.suffix in BINARY or path.name in LICENCE_LIKE:
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            found += [
                f"{path.relative_to(ROOT)}:{number}: {match[0]}" for match in pattern.finditer(line)
            ]
    return found


@pytest.fixture(autouse=True)
def _checkout() -> None:
    if not tracked_files():
        pytest.skip("not a git checkout")


def test_no_file_names_a_path_of_one_machine() -> None:
    found = find_all(MACHINE_PATHS)
    assert not found, "\n".join(found)


def test_no_file_names_a_package_index() -> None:
    found = find_all(INDEXES)
    assert not found, "\n".join(found)


def test_the_lock_holds_versions_only() -> None:
    lines = (ROOT / "requirements-dev.lock").read_text().splitlines()
    locked = re.compile(r"#.*|[A-Za-z0-9._-]+==[A-Za-z0-9.!+]+( ; platform_machine == '\w+')?")
    assert not [line for line in lines if not locked.fullmatch(line)]


def test_nothing_that_is_built_is_tracked() -> None:
    built = [
        str(path.relative_to(ROOT))
        for path in tracked_files()
        if path.suffix in {".so", ".pyc", ".o", ".recording"} or "__pycache__" in path.parts
    ]
    assert not built
