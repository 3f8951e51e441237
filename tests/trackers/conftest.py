"""Runs a program of these tests in a process of its own: what trackers hook into is the process's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="session")
def answer_of(tmp_path_factory):
    """answer_of(module, *arguments): what `python -m tests.trackers.<module> FOLDER *arguments` prints, as JSON."""

    def run(module: str, *arguments: str) -> dict:
        folder = tmp_path_factory.mktemp(module)
        folder.chmod(0o700)
        command = [sys.executable, "-W", "ignore", "-m", f"tests.trackers.{module}", str(folder)]
        done = subprocess.run(
            [*command, *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            cwd=ROOT,
        )
        assert done.returncode == 0, done.stderr
        return {**json.loads(done.stdout), "folder": str(folder)}

    return run
