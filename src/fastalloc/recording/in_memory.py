"""Recordings that lie in memory, because there can be no file: a link in the folder leads to them.

The link names a descriptor of the running process (native/memory_file.c). It is followed only as long as
that is what it should be: processes end, and descriptors are given to other files.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

_DESCRIPTOR = re.compile(r"/proc/\d{1,10}/fd/\d{1,9}")
_MEMORY = "/memfd:fastalloc"


def is_link(path: Path) -> bool:
    """Whether `path` is such a link, its process running or not."""
    return _target(path) != ""


def target(path: Path) -> str:
    """What the link leads to; "" if `path` is none, or the process is gone or not to be looked into."""
    found = _target(path)
    try:
        return found if found and str(Path(found).readlink()).startswith(_MEMORY) else ""
    except OSError:
        return ""


def _target(path: Path) -> str:
    try:
        found = str(path.readlink())
    except (OSError, ValueError):
        return ""
    return found if _DESCRIPTOR.fullmatch(found) else ""


def open_no_other(path: Path, flags: int) -> int:
    """`os.open`, following no symbolic link but one to a recording in memory."""
    memory = target(path)
    return os.open(memory or path, flags | (0 if memory else os.O_NOFOLLOW))
