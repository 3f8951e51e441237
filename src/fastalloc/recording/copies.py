"""A recording copied from outside, file to file, while its process may go on writing.

Piece by piece, so that the copier needs little memory: it may share the limit of who is copied.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from fastalloc.recording.layout import HEADER
from fastalloc.recording.source import File
from fastalloc.recording.tables import ATTEMPTS, PAUSE_SECONDS, entries_in_use, read_header

if TYPE_CHECKING:
    from pathlib import Path

PIECE_BYTES = 256 << 10


def copy_recording(source: Path, target: Path) -> bool:
    """Copy what is in use of a recording to the new file `target`; the rest is a hole.

    Returns whether it is of one instant; else its `sequence` is odd, and readers work out again what
    may disagree. RecordingError where `source` is none, OSError from writing.
    """
    with File(source) as file:
        descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            return _copy(file, descriptor)
        finally:
            os.close(descriptor)


def _copy(file: File, target: int) -> bool:
    for _ in range(ATTEMPTS):
        header = read_header(file)
        os.ftruncate(target, int(header["file_bytes"]))
        for offset, size in entries_in_use(file.path, header):
            _copy_piecewise(file, target, offset, size)
        after = read_header(file)
        if header["sequence"] == after["sequence"] and not header["sequence"] % 2:
            _write_header(target, header)
            return True
        time.sleep(PAUSE_SECONDS)
    header["sequence"] |= 1
    header["sweeping"] |= after["sweeping"] or after["sweeps"] != header["sweeps"]
    _write_header(target, header)
    return False


def _copy_piecewise(file: File, target: int, offset: int, size: int) -> None:
    while size:
        piece = bytearray(min(size, PIECE_BYTES))
        file.fill(memoryview(piece), offset)
        os.pwrite(target, piece, offset)
        offset += len(piece)
        size -= len(piece)


def _write_header(target: int, header: Any) -> None:
    os.pwrite(target, np.array(header, HEADER).tobytes(), 0)
