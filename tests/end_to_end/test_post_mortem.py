"""Post-mortem of real deaths: the kernel kills in a real cgroup, and the folder tells of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end import oom_kills

pytestmark = pytest.mark.oom

VICTIM = """
import fastalloc, os, sys, time

fastalloc.start()
kept = []

def guilty():
    kept.extend(bytes(1000) for _ in range(1000))  # the line

for number in range(10_000):
    with fastalloc.span("GET /guilty/", number=number), fastalloc.phase("view"):
        guilty()
    time.sleep(0.005)
    if number == int(sys.argv[1]):
        os.kill(os.getpid(), 9)
"""


def post_mortem(folder: Path) -> tuple[int, Any]:
    command = [sys.executable, "-m", "fastalloc", "post-mortem", str(folder), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "victim.py"
    path.write_text(VICTIM)
    return path


def die(group: Any, script: Path, recordings: Path, kill_at: int = -1) -> None:
    done = subprocess.run(
        [sys.executable, str(script), str(kill_at)],
        env={**os.environ, "FASTALLOC_DIR": str(recordings)},
        preexec_fn=group.enter,
        check=False,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL


def test_an_oom_kill_is_told_from_a_kill_by_hand(
    group: Any, recordings: Path, script: Path, tmp_path: Path
) -> None:
    die(group, script, recordings)
    status, report = post_mortem(recordings)
    assert status == 1
    (death,) = report["deaths"]
    assert (death["ending"], death["certainty"]) == ("out_of_memory", "certain")
    assert death["spans"][0]["key"] == "GET /guilty/"
    number = next(n for n, text in enumerate(VICTIM.splitlines(), 1) if "# the line" in text)
    assert death["lines"][0]["key"] == f"{script}:{number}"
    assert death["usage"]["percent"] > 80

    by_hand = tmp_path / "by hand"
    by_hand.mkdir(mode=0o700)
    die(group, script, by_hand, kill_at=5)
    _, report = post_mortem(by_hand)
    (death,) = report["deaths"]
    assert death["ending"] == "killed"
    assert "it was not that" in death["evidence"][0]

    # The container is gone, the volume is kept: another cgroup, no log that would know the pid.
    kept = tmp_path / "kept"
    shutil.copytree(recordings, kept)
    group.__exit__(None, None, None)
    group.path.mkdir()  # for the fixture, which leaves it once more
    unshare = ["unshare", "--pid", "--fork", "--mount-proc"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no pid namespace can be made")
    code = "import sys; from fastalloc.analysis import machine, post_mortem; from pathlib import Path; m = machine.Machine(kernel_log=Path('/none')); d = post_mortem.examine(Path(sys.argv[1]), machine=m).deaths[0]; print(*d.ending[:2], d.lines[0].key)"
    command = [*unshare, sys.executable, "-c", code, str(kept)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert told == ["out_of_memory", "likely", f"{script}:{number}"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", oom_kills.PROGRAMS)
def test_however_it_grew_the_guilty_span_and_line_are_named(
    kind: str, group: Any, tmp_path: Path
) -> None:
    verdict = oom_kills.kill(kind, tmp_path, seed=11)
    assert verdict.killed
    assert verdict.told_right, verdict
    assert verdict.certainty == "certain"
