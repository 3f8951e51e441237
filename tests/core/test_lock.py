"""The lock on a recording: it lasts as long as the process, and tells its life to any reader."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fastalloc
from fastalloc.recording.source import File
from tests.core.programs import Programs


def is_locked(path: Path) -> bool:
    with File(path) as source:
        return source.is_locked()


@pytest.fixture
def sleeper(programs: Programs) -> Any:
    """A recorded process that has closed all its descriptors, as daemons do."""
    process: Any = programs.start(
        """
        import fastalloc, os, time
        fastalloc.start()
        print("ready", flush=True)
        os.closerange(3, 4096)
        time.sleep(60)
        """
    )
    assert process.stdout.readline() == "ready\n"
    (process.path,) = process.directory.glob("*.recording")
    yield process
    process.kill()
    process.communicate()


def test_the_lock_goes_with_the_process_and_not_before(sleeper: Any) -> None:
    assert is_locked(sleeper.path)
    assert fastalloc.read(sleeper.path).state == "running"
    sleeper.send_signal(signal.SIGKILL)
    sleeper.wait()
    assert not is_locked(sleeper.path)
    assert fastalloc.read(sleeper.path).state == "killed"


def test_a_copy_is_not_locked(sleeper: Any, tmp_path: Path) -> None:
    copy = tmp_path / sleeper.path.name
    shutil.copy(sleeper.path, copy)
    assert not is_locked(copy)
    assert fastalloc.read(copy).state == "running"  # its pid tells, here
    sleeper.kill()
    sleeper.wait()
    assert fastalloc.read(copy).state == "killed"


def test_a_closed_recording_is_not_locked(programs: Programs) -> None:
    source = """
        import fastalloc, os
        fastalloc.start()
        path = fastalloc.status().recording
        fastalloc.stop()
        from fastalloc.recording.source import File
        from pathlib import Path
        with File(Path(path)) as file:
            assert not file.is_locked()
        """
    programs.run(source)


def test_a_child_of_fork_does_not_keep_its_parents_lock(programs: Programs) -> None:
    source = """
        import fastalloc, os, time
        fastalloc.start()
        if os.fork() == 0:
            os.setsid()
            os.close(1), os.close(2)
            fastalloc.status()  # a recording of its own, at once
            time.sleep(20)
            os._exit(0)
        time.sleep(0.2)
        os.kill(os.getpid(), 9)
        """
    done = programs.run(source, returncode=-signal.SIGKILL)
    parent, child = sorted(
        map(fastalloc.read, done.recordings), key=lambda s: s.header["forked_ns"]
    )
    assert (parent.state, child.state) == ("killed", "running")
    assert not is_locked(Path(parent.path))
    assert is_locked(Path(child.path))
    os.kill(child.pid, signal.SIGKILL)


def test_a_reader_in_another_pid_namespace_sees_that_the_process_lives(sleeper: Any) -> None:
    unshare = ["unshare", "--pid", "--fork", "--mount-proc"]
    try:
        subprocess.run([*unshare, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no pid namespace can be made")
    code = "import fastalloc, sys; print(fastalloc.read(sys.argv[1]).state)"
    command = [*unshare, sys.executable, "-c", code, str(sleeper.path)]

    def state() -> str:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert state() == "running"
    sleeper.kill()
    sleeper.wait()
    assert state() == "killed"
