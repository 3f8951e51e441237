"""read: from a path to a Snapshot."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fastalloc.recording.checks import check
from fastalloc.recording.errors import RecordingError
from fastalloc.recording.holders import Row
from fastalloc.recording.renamed import follow_renamed_spans
from fastalloc.recording.repair import repair
from fastalloc.recording.snapshot import Snapshot
from fastalloc.recording.source import File, Image, Source
from fastalloc.recording.stacks import Frame
from fastalloc.recording.state import read_state
from fastalloc.recording.tables import copy_tables

__all__ = ["Frame", "RecordingError", "Row", "Snapshot", "read", "read_copy"]

DUMP_RECORDING = "recording.fastalloc"
DUMP_STATE = "state.json"


def read(path: str | os.PathLike[str]) -> Snapshot:
    """Read a recording, or a dump's folder, of a live, dead or copied process.

    The process, if it lives, is neither stopped nor asked. Raises RecordingError, whatever the
    file holds, with one sentence that says what is wrong and what to do. Cost: about a
    millisecond for each MiB in use; arrays are made when first asked for.
    """
    path = Path(path)
    if not _is_folder(path):
        with File(path) as source:
            return _read(path, source, None)
    recording = path / DUMP_RECORDING
    if not recording.exists():
        raise RecordingError(
            f"{path}: is a folder without a {DUMP_RECORDING}, so it is no dump; "
            "name a recording in it"
        )
    with File(recording) as source:
        return _read(path, source, read_state(path / DUMP_STATE))


def read_copy(content: bytes | bytearray | memoryview, path: str | os.PathLike[str]) -> Snapshot:
    """Read a recording's bytes from memory; `path` is where they are from. Else as `read`.

    For the recording's own process: a copy made under the core's lock is consistent, while a
    file that the reader's own allocations write into may never hold still.
    """
    return _read(Path(path), Image(Path(path), content), None)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False  # opening it as a file says why


def _read(path: Path, source: Source, dump: dict[str, Any] | None) -> Snapshot:
    tables = copy_tables(source, is_dump=dump is not None)
    strings = check(tables)
    died_writing = not tables.consistent and not tables.alive
    if died_writing:
        repair(tables)
    follow_renamed_spans(tables)
    return Snapshot(path, tables, strings, repaired=died_writing, dump=dump)
