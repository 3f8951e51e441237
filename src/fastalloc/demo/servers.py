"""The demo's servers: gunicorn (WSGI, prefork) and uvicorn (ASGI), as processes of their own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

START_TIMEOUT_SECONDS = 30.0
STOP_TIMEOUT_SECONDS = 10.0

# Port 0: the kernel finds a free one, and the server's first lines of log tell it.
COMMANDS = {
    "gunicorn": [
        *("-m", "gunicorn", "--preload", "--workers", "2", "--bind", "127.0.0.1:0"),
        *("--no-control-socket", "fastalloc.demo.project.wsgi"),
    ],
    "uvicorn": [
        *("-m", "uvicorn", "--host", "127.0.0.1", "--port", "0", "--no-access-log"),
        "fastalloc.demo.project.asgi:application",
    ],
}
KINDS = {"gunicorn": "WSGI, 2 preforked workers", "uvicorn": "ASGI"}
_LISTENING = re.compile(r"(?:Listening at:|running on) http://127\.0\.0\.1:(\d+)")
_READY = {"gunicorn": "Booting worker", "uvicorn": "running on"}


class ServerFailed(RuntimeError):
    """The server did not start; the message ends with its log."""


@dataclass
class Server:
    """A running server."""

    kind: str
    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def processes(self) -> list[int]:
        """The server's processes: the one started, and its children (the workers)."""
        own = self.process.pid
        children = Path(f"/proc/{own}/task/{own}/children")
        return [own, *map(int, children.read_text().split())] if children.exists() else [own]

    def alive(self) -> bool:
        """Whether the process that was started still runs; one that has died is reaped."""
        return self.process.poll() is None

    def ending(self) -> str:
        """How the server tells of the end of a worker, or how it ended itself; "" while all run."""
        for line in self.log.read_text(errors="replace").splitlines():
            if "SIGKILL" in line:
                return line.partition("] [ERROR] ")[2] or line
        code = self.process.poll()
        if code is not None and code < 0:
            return f"the server was ended by {signal.Signals(-code).name}"
        return ""


@contextmanager
def serving(
    kind: str, log: Path, environment: Mapping[str, str], enter: Callable[[], None]
) -> Iterator[Server]:
    """Run a server; on exit it is stopped. `enter` runs in its process before the server does."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *COMMANDS[kind]],
            env={**os.environ, **environment, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=enter,
        )
    try:
        yield Server(kind, process, _port(kind, process, log), log)
    finally:
        _stop(process)


def _port(kind: str, process: subprocess.Popen[bytes], log: Path) -> int:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        text = log.read_text(errors="replace")
        found = _LISTENING.search(text)
        if found and _READY[kind] in text:
            return int(found[1])
        time.sleep(0.05)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
    raise ServerFailed(f"{kind} did not start. Its log ends so:\n{tail}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
