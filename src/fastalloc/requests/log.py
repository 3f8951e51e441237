"""The request log: what requests leave behind, as lines of JSON beside the recording.

    fastalloc-<pid>-<start>.requests.jsonl       the newest lines
    fastalloc-<pid>-<start>.requests.1.jsonl     those before

docs/request-log.md says what is in them, log.schema.json says so to programs. Lines are handed over on the request's path and written in
the watcher's thread, half a second later at most, so a process that is killed leaves all but its last
half second. Bounded in bytes on disk, in lines that wait, in bytes of a line; what is left out is
counted.
"""

from __future__ import annotations

import os
import sys
from time import time

from fastalloc import gauges, profiler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Line = Callable[[], dict[str, Any]]

VERSION = 1
MAX_WAITING = 256
MAX_LINE_BYTES = 64 << 10
WRITE_SECONDS = 0.5
JOB = "request log"


class RequestLog:
    """The log of one process."""

    def __init__(self) -> None:
        self._waiting: list[Line] = []
        self._path = ""
        self._file = -1
        self._size = 0
        self._scheduled = False
        self.dropped = 0  # lines: too many waited, or one was too long

    def add(self, line: Line) -> None:
        """Have `line()` written soon. It is called in the watcher's thread."""
        if len(self._waiting) >= MAX_WAITING:
            self.dropped += 1
            return
        self._waiting.append(line)
        if not self._scheduled:
            self._scheduled = True
            from fastalloc import (
                background,  # needs the core, which is there when something is added
            )

            background.every(WRITE_SECONDS, self.write, JOB)

    def write(self) -> None:
        """Write what waits. OSError when the disk refuses: then it is gone."""
        from fastalloc import background

        background.cancel(JOB)
        self._scheduled = False
        waiting, self._waiting = self._waiting, []
        limit = profiler.option("request_log_bytes")
        if not waiting or not limit:
            return
        import json

        content = bytearray()
        for line in waiting:
            text = json.dumps(line(), separators=(",", ":"), default=str).encode()
            if len(text) > MAX_LINE_BYTES:
                self.dropped += 1
                continue
            content += text + b"\n"
        if not self._follows(gauges.read()["recording"]):
            return
        if self._size and self._size + len(content) > limit // 2:
            self._rotate()
        if not self._size:
            content[:0] = json.dumps(self._head(), default=str).encode() + b"\n"
        self._size += os.write(self._file, content)

    def forget(self) -> None:
        """In a forked child: the file and what waits are the parent's."""
        self._waiting, self._scheduled = [], False
        self._close()

    def _follows(self, recording: str) -> bool:
        """Have the file open that belongs to the recording."""
        if not recording:
            return False
        path = recording.removesuffix(".recording") + ".requests.jsonl"
        if path != self._path:
            self._close()
            self._file = _open(path)
            self._path, self._size = path, os.fstat(self._file).st_size
        return True

    def _rotate(self) -> None:
        path = self._path
        self._close()
        try:
            os.replace(path, path.removesuffix(".jsonl") + ".1.jsonl")
        except FileNotFoundError:  # somebody has deleted it
            pass
        self._file = _open(path)
        self._path, self._size = path, 0

    def _close(self) -> None:
        """Whatever fails next: the number is not ours any more, and the file is opened anew."""
        file, self._file, self._path = self._file, -1, ""
        if file >= 0:
            os.close(file)

    def _head(self) -> dict[str, Any]:
        status = profiler.status()
        return {
            "kind": "process",
            "version": VERSION,
            "time": round(time(), 3),
            "pid": os.getpid(),
            "python": ".".join(map(str, sys.version_info[:3])),
            "recording": os.path.basename(status.recording),
            "mode": status.mode,
            "interval_bytes": status.interval_bytes,
            "limit_bytes": status.limit_bytes,
            "request_percent": profiler.option("request_percent"),
            "dropped": self.dropped,
        }


def _open(path: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(path, flags, 0o600)
