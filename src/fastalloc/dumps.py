"""Dumps: the recording and what only Python knows, as a folder that appears all at once."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import time

STATE_VERSION = 1


def write(
    reason: str, state: dict[str, object], recording: bytes, status: dict[str, object]
) -> str:
    """Write the folder `dump-<pid>-<unix ms>` beside the recording; returns its path. OSError, and
    then nothing is left behind."""
    folder = os.path.dirname(str(state["recording"]))
    name, building = _make_folder(folder)
    content = {
        "version": STATE_VERSION,
        "reason": reason,
        "time": time.time(),
        "pid": os.getpid(),
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "status": status,
    }
    text = json.dumps(content, indent=1, default=str)
    final = os.path.join(folder, name)
    try:
        _write_file(os.path.join(building, "recording.fastalloc"), recording)
        _write_file(os.path.join(building, "state.json"), text.encode())
        os.rename(building, final)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return final


def _make_folder(folder: str) -> tuple[str, str]:
    """(name of a dump that does not exist yet, path of the hidden folder it is made in)."""
    instant = int(time.time() * 1000)
    while True:
        name = f"dump-{os.getpid()}-{instant}"
        building = os.path.join(folder, f".{name}")
        try:
            os.mkdir(building, 0o700)
        except FileExistsError:
            instant += 1
            continue
        if not os.path.exists(os.path.join(folder, name)):
            return name, building
        os.rmdir(building)
        instant += 1


def _write_file(path: str, content: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
