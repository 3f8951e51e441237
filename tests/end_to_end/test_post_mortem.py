"""Post-mortem of real deaths: the kernel kills in a real cgroup, and the folder tells of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
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


MASTER = """
import fastalloc, os, sys, time

fastalloc.start()
if os.fork():
    os.wait()  # for ever: the launcher
    os._exit(0)
with fastalloc.span("boot"):  # the master has its recording, and then sleeps in C for good
    pass
if os.fork():
    os.wait()
    os._exit(0)
kept = []
time.sleep(2)
while True:
    with fastalloc.span("GET /guilty/"):
        kept.extend(bytes(1000) for _ in range(1000))
    time.sleep(0.005)
"""


def test_a_master_that_waits_when_its_whole_cgroup_is_killed_is_told_from_one_that_was_alone(
    group: Any, recordings: Path, tmp_path: Path
) -> None:
    """The kernel kills all of them (version 2), or one, and the container's runtime the rest (version 1)."""
    script = tmp_path / "master.py"
    script.write_text(MASTER)
    with suppress(OSError):
        (group.path / "memory.oom.group").write_text("1")
    process = subprocess.Popen(
        [sys.executable, str(script)],
        env={**os.environ, "FASTALLOC_DIR": str(recordings)},
        preexec_fn=group.enter,
    )
    until = time.monotonic() + 60
    while group.oom_kills() == 0 and time.monotonic() < until:
        time.sleep(0.01)
    for pid in group.processes():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait(60)
    group.empty()
    status, report = post_mortem(recordings)
    assert status == 1 and report["alive"] == 0
    worker, master = (
        next(death for death in report["deaths"] if death["parent_pid"] == parent)
        for parent in (_master_of(report), process.pid)
    )
    assert (worker["ending"], worker["certainty"]) == ("out_of_memory", "certain")
    assert worker["spans"][0]["key"] == "GET /guilty/"
    # Read by its own watcher, or later by the worker's: whichever saw more.
    (seen,) = [text for text in master["evidence"] if "of the limit when last seen" in text]
    assert int(seen.split()[3]) > 80


def _master_of(report: Any) -> int:
    """Whose child is the largest."""
    largest = max(report["deaths"], key=lambda death: death["live_bytes"])
    parent: int = largest["parent_pid"]
    return parent


def test_a_program_that_goes_over_to_another_has_not_died(recordings: Path, tmp_path: Path) -> None:
    script = tmp_path / "again.py"
    script.write_text(
        "import fastalloc, os, sys\n"
        "fastalloc.start()\n"
        "if len(sys.argv) == 1: os.execv(sys.executable, [sys.executable, sys.argv[0], 'again'])\n"
        "os.kill(os.getpid(), 9)\n"
    )
    environment = {**os.environ, "FASTALLOC_DIR": str(recordings)}
    subprocess.run([sys.executable, str(script)], env=environment, check=False)
    status, report = post_mortem(recordings)
    assert status == 1
    assert [death["ending"] for death in report["deaths"]] == ["exec", "killed"]
    assert report["died_badly"] == 1 and report["fleets"] == []
