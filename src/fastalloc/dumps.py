"""Dumps: the recording and what only Python knows, as a folder that appears all at once."""

from __future__ import annotations

import json
import os
import platform
import sys
import time

STATE_VERSION = 1


def write(
    reason: str, state: dict[str, object], recording: bytes, status: dict[str, object]
) -> str:
    """Write the folder `dump-<pid>-<unix ms>` beside the recording; returns its path. OSError."""
    folder = os.path.dirname(str(state["recording"]))
    name = f"dump-{os.getpid()}-{int(time.time() * 1000)}"
    final, building = os.path.join(folder, name), os.path.join(folder, f".{name}")
    os.mkdir(building, 0o700)
    content = {
        "version": STATE_VERSION,
        "reason": reason,
        "time": time.time(),
        "pid": os.getpid(),
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "status": status,
    }
    _write_file(os.path.join(building, "recording.fastalloc"), recording)
    _write_file(
        os.path.join(building, "state.json"), json.dumps(content, indent=1, default=str).encode()
    )
    os.rename(building, final)
    return final


def _write_file(path: str, content: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
