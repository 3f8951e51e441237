"""At the start of a service: a line of log about each process before it that died badly.

What a dead process held is worked out by `fastalloc post-mortem --log`, as a process of its own for a
second or two: the recorded program loads nothing for it. Off unless `post_mortem_at_start` is set.

Law: never waits for that process, and never raises.
"""

from __future__ import annotations

import errno
import os
import sys
import time

from fastalloc import background, logs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from subprocess import Popen

JOB = "post-mortem at start"
FIRST_AFTER_SECONDS = 3.0
LOOK_SECONDS = 0.5
GIVE_UP_SECONDS = 60.0
MOST_LINES = 20
STAMP = ".post-mortem"
"""Written by whoever looks, so that of a fleet's workers one does."""

_process: Popen[bytes] | None = None
_owner = 0
_give_up = 0.0


def look(directory: str) -> None:
    """Look, in a few seconds."""

    def job() -> None:
        background.cancel(JOB)
        if _is_due(directory):
            _launch(directory)

    background.every(FIRST_AFTER_SECONDS, job, JOB)


def _is_due(directory: str) -> bool:
    """Whether this process is the one that looks; then the stamp says so to the others."""
    path = os.path.join(directory, STAMP)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        # Workers are forked in the same millisecond. The lock ends with the descriptor.
        os.lockf(fd, os.F_TLOCK, 0)
        status = os.fstat(fd)
        if status.st_size and time.time() - status.st_mtime < GIVE_UP_SECONDS:
            return False
        os.pwrite(fd, b"1", 0)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN)  # else: no locks here, or no space
    finally:
        os.close(fd)
    return True


def _launch(directory: str) -> None:
    global _process, _owner, _give_up
    python = sys.executable or ""
    if not os.path.basename(python).startswith("python"):
        return  # a server that has Python built in: it would start itself again
    import subprocess

    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from fastalloc.cli import main; "
        "sys.exit(main(['post-mortem', '--log', sys.argv[2]]))"
    )
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("FASTALLOC_")
    }
    _process = subprocess.Popen(
        [python, "-c", code, package, directory],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )
    _owner = os.getpid()
    _give_up = time.monotonic() + GIVE_UP_SECONDS
    background.every(LOOK_SECONDS, _collect, JOB)


def _collect() -> None:
    """Log what it said, once it has ended; a pipe holds that much."""
    global _process
    process = _process
    if process is None or _owner != os.getpid():  # a forked child: the parent logs it
        background.cancel(JOB)
        return
    if process.poll() is None:
        if time.monotonic() < _give_up:
            return
        process.kill()
    background.cancel(JOB)
    _process = None
    assert process.stdout is not None
    with process.stdout:
        lines = process.stdout.read().splitlines()
    import json

    for line in lines[:MOST_LINES]:
        logs.tell("A process of this service died", json.loads(line))
