"""A folder of recordings and dumps: which there are, by name alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from fastalloc.recording.in_memory import is_link, target

if TYPE_CHECKING:
    from pathlib import Path

RECORDING_NAME = re.compile(r"fastalloc-(?P<pid>\d{1,10})-(?P<start>\d{1,16})\.recording")
DUMP_NAME = re.compile(r"dump-(?P<pid>\d{1,10})-(?P<start>\d{1,16})")


class Entry(NamedTuple):
    """A recording or a dump, as its name tells."""

    start_ms: int
    """Of the process's recording, or when the dump was made; since 1970."""
    pid: int
    path: Path


def recordings(directory: Path) -> list[Entry]:
    """The recordings in `directory`, the newest last, those in memory as long as their process runs; none where there is no such folder. OSError
    where it cannot be listed."""
    return _entries(directory, RECORDING_NAME)


def dumps(directory: Path) -> list[Entry]:
    """The dumps in `directory`, likewise."""
    return _entries(directory, DUMP_NAME)


def _entries(directory: Path, name: re.Pattern[str]) -> list[Entry]:
    try:
        paths = list(directory.iterdir())
    except FileNotFoundError:
        return []
    found = []
    for path in paths:
        match = name.fullmatch(path.name)
        if match and not (is_link(path) and not target(path)):
            found.append(Entry(int(match["start"]), int(match["pid"]), path))
    return sorted(found)
