"""What switches recording off while the process runs, and on again once none of it holds any more.

    program   fastalloc.disable()                     until fastalloc.enable()
    control   the control word: `fastalloc disable`   until `fastalloc enable`, or enable()
    file      `disabled` in the recordings' folder    until it is gone
    key       a shared key (kill_switch.py)           until it is gone
    overhead  recording costs too much (overhead.py)  until it is enabled

The control word stops the samples at once, in native/; here the hooks follow.
"""

from __future__ import annotations

import os

from fastalloc import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# For what has failed: the core tells of each change within a second (native/watch.c).
LOOK_SECONDS = 30.0
FILE_NAME = "disabled"

RUN, DISABLE, ENABLE = range(3)  # enum fa_control
SOURCES = ("", "program", "control", "file", "key", "overhead", "guard")  # enum fa_off
UNTIL_ENABLED = ("program", "control", "overhead")
REASONS = {
    "program": "disabled",
    "control": "switched off by `fastalloc disable`",
    "file": "switched off by the file {}",
    "key": "switched off by the shared key of kill_switch_url",
    "overhead": "switched off: recording took more CPU time than overhead_percent",
}

_off: dict[str, str] = {}  # why recording is off, by source, the first that came first
_directory = ""


def _nothing(mode: str | None = None) -> None:
    """Until `begin`."""


_switch_off: Callable[[], None] = _nothing
_switch_on: Callable[[str | None], None] = _nothing


def begin(
    directory: str, switch_off: Callable[[], None], switch_on: Callable[[str | None], None]
) -> None:
    """A recording begins: watch over it. switch_on(mode): None is the mode it was in."""
    global _directory, _switch_off, _switch_on
    from fastalloc import background

    _directory, _switch_off, _switch_on = directory, switch_off, switch_on
    _off.clear()
    background.on("control", look)
    background.every(LOOK_SECONDS, look, "kill switch", while_disabled=True)


def forbidden(directory: str) -> str:
    """Why no recording may begin in `directory` now; "" if it may."""
    return _reason("file", directory) if _has_file(directory) else ""


def reason() -> str:
    """Why recording is switched off; "" if it is not."""
    return next(iter(_off.values()), "")


def hold(source: str) -> None:
    """Switch recording off, for `source`."""
    if source in _off:
        return
    _off[source] = _reason(source, _directory)
    if len(_off) == 1:
        _switch_off()
        _core.note_off(SOURCES.index(source))


def release(*sources: str, mode: str | None = None) -> None:
    """`sources` do not hold any more: recording goes on, in `mode`, if no other source does."""
    was_on = not _off
    for source in sources:
        _off.pop(source, None)
    if _off:
        _core.note_off(SOURCES.index(next(iter(_off))))
    elif mode is not None or not was_on or not _core.is_active():
        _core.note_off(0)
        _switch_on(mode)


def look() -> None:
    """Do what the control word and the file ask for. In the watcher's thread; some microseconds."""
    if _has_file(_directory):
        hold("file")
    elif "file" in _off:
        release("file")
    _obey(_core.control())


def _obey(word: int) -> None:
    """The word stands at RUN or DISABLE, as it is; anything else was written by another process."""
    if word == (DISABLE if _off else RUN):
        return
    if word == DISABLE:
        hold("control")
    else:
        mode = _core.MODES[word - ENABLE] if ENABLE < word < ENABLE + len(_core.MODES) else None
        release(*UNTIL_ENABLED, mode=mode)
    _core.control_replace(word, DISABLE if _off else RUN)


def _has_file(directory: str) -> bool:
    """A folder that cannot be read says nothing: all stays as it is."""
    try:
        os.lstat(os.path.join(directory, FILE_NAME))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return "file" in _off
    return True


def _reason(source: str, directory: str) -> str:
    return REASONS[source].format(os.path.join(directory, FILE_NAME))
