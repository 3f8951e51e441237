"""Real servers for the apps of these tests, and what their recordings say."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import fastalloc

ROOT = Path(__file__).parent.parent.parent
APPS = "tests.integrations.apps"
LISTENING = re.compile(r"(?:Listening at:|running on) http://127\.0\.0\.1:(\d+)")
GUNICORN = ("-m", "gunicorn", "--bind", "127.0.0.1:0", "--no-control-socket")
UVICORN = ("-m", "uvicorn", "--host", "127.0.0.1", "--port", "0")


@dataclass
class Response:
    status: int
    headers: list[tuple[str, str]]
    body: bytes


@dataclass
class Server:
    process: subprocess.Popen[bytes]
    port: int
    log: Path
    folder: Path

    def get(self, path: str, method: str = "GET", **headers: str) -> Response:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        kept = sorted((k, v) for k, v in answer.getheaders() if k.lower() != "date")
        connection.close()
        return Response(answer.status, kept, body)

    def children(self) -> list[int]:
        own = self.process.pid
        return [int(p) for p in Path(f"/proc/{own}/task/{own}/children").read_text().split()]


@contextmanager
def serving(folder: Path, *command: str, ready: str = "", **environment: str) -> Iterator[Server]:
    """Run `python *command` until the block ends; then SIGTERM. Recordings go to folder/recordings. What is
    empty is not in the environment."""
    log = folder / "server.log"
    recordings = folder / "recordings"
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("FASTALLOC_", "PYTEST_"))}
    settings = {
        "FASTALLOC_MODE": "light",
        "FASTALLOC_DIR": str(recordings),
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}",
        **environment,
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=folder,
            env={**kept, **{name: value for name, value in settings.items() if value}},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Server(process, _port(process, log, ready), log, recordings)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()


def _port(process: subprocess.Popen[bytes], log: Path, ready: str) -> int:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        text = log.read_text(errors="replace")
        found = LISTENING.search(text)
        if found and ready in text:
            return int(found[1])
        time.sleep(0.02)
    raise AssertionError(f"the server did not start\n{log.read_text(errors='replace')}")


def snapshots(folder: Path) -> list:
    return [fastalloc.read(path) for path in sorted(folder.glob("*.recording"))]


def spans(folder: Path) -> Counter[str]:
    """How many spans ended, by name."""
    return Counter(
        str(record["name"])
        for snapshot in snapshots(folder)
        for record in snapshot.records
        if record["kind"] == "span"
    )


def phases(folder: Path) -> dict[str, list[str]]:
    """The phases of each span's name, in the order in which they first ended."""
    found: dict[str, list[str]] = {}
    for snapshot in snapshots(folder):
        for record in snapshot.records:
            if record["kind"] == "phase":
                names = found.setdefault(str(record["span_name"]), [])
                if str(record["name"]) not in names:
                    names.append(str(record["name"]))
    return found
