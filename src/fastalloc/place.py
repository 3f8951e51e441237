"""Where the recording lies: in a file; or, where there can be none, in memory until there can.

A full or read-only disk, or a folder that is not ours, costs what survives the process, not what
the process can tell about itself.
"""

from __future__ import annotations

import os

from fastalloc import _core, background, housekeeping
from fastalloc.directory import prepare
from fastalloc.values import ConfigError

RECORDING_BYTES = 5 << 20  # of disk, for each step of `scale`
RETRY_SECONDS = 60.0
JOB = "recording to file"

LOST = "its file was lost: it was cut short, or its disk failed"

_directory = ""
_reason = ""


def start(directory: str, caps: housekeeping.Caps, **arguments: object) -> None:
    """`_core.start(**arguments)`, in `directory` if that works. OSError and the like: not even in
    memory."""
    global _directory, _reason
    _directory, _reason = directory, ""
    arguments["directory"] = os.fsencode(directory)
    try:
        prepare(directory)
        housekeeping.make_room(directory, caps, RECORDING_BYTES * int(str(arguments["scale"])))
        _core.start(**arguments)  # type: ignore[arg-type]
    except (OSError, ConfigError) as error:
        why = str(error) or type(error).__name__
        _core.start(in_memory=True, **arguments)  # type: ignore[arg-type]
        _reason = why
    background.every(RETRY_SECONDS, to_file, JOB)


def reason() -> str:
    """Why the recording lies in memory only; "" if it has a file."""
    state = {} if _reason else _core.state()
    lost = state.get("state") == "running" and not state["recording"]
    return LOST if lost else _reason


def to_file() -> None:
    """Try again, if there is no file. In the watcher's thread; writes the whole recording if it works."""
    global _reason
    if not reason():
        return
    try:
        prepare(_directory)
        _core.to_file()
    except (OSError, ConfigError) as error:
        _reason = str(error) or type(error).__name__
    else:
        _reason = ""
