"""Writes a snapshot as a file that memray's reporters open."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fastalloc.export import aggregated
from fastalloc.export.all_allocations import new_body
from fastalloc.export.blocks import Translator
from fastalloc.export.errors import ExportError
from fastalloc.export.header import Header, Kind
from fastalloc.export.history import write_history
from fastalloc.export.memory_plot import anchors_of, held_at
from fastalloc.export.records import FIRST_PYTHON
from fastalloc.export.rows import rows_of
from fastalloc.export.versions import chosen_version, format_for, pymalloc_for

if TYPE_CHECKING:
    from fastalloc.export.blocks import Block
    from fastalloc.export.stacks import FrameKey
    from fastalloc.recording.reader import Snapshot

Progress = Callable[[int, int], None]
MAX_INT = (1 << 31) - 1
KINDS = {"aggregated": Kind.AGGREGATED, "all": Kind.ALL}


def export_memray(
    snapshot: Snapshot,
    destination_path: str | Path,
    *,
    kind: str = "aggregated",
    memray_version: str | None = None,
    frames: Sequence[str] = (),
    progress: Progress | None = None,
) -> None:
    """Write a snapshot as a file for memray.

    kind: "aggregated" holds the live heap and the high-water mark, one row per stack, with
        exact bytes and estimated counts. "all" holds every known sample with its times, for
        reports over time (--temporal); there each sample counts as one allocation.
    memray_version: the release that will read the file, since each reads only its own
        format; the installed one if not given.
    frames: what to show above every stack, outermost first: any of "span", "phase", "thread".
    progress: called with (done, total) while writing.

    The file appears at once and complete, readable by its owner only. Raises ExportError.
    """
    if kind not in KINDS:
        raise ExportError(f"'{kind}' is not a kind of memray file; choose from {', '.join(KINDS)}.")
    version = chosen_version(memray_version)
    format = format_for(version)
    translator = Translator(snapshot, frames, pymalloc_for(version))
    write = _aggregated if kind == "aggregated" else _all
    replace_file(destination_path, write(snapshot, format, translator, progress or _silent))


def _aggregated(
    snapshot: Snapshot, format: int, translator: Translator, progress: Progress
) -> bytes:
    tree = translator.tree
    blocks = list(translator.blocks())
    rows = aggregated.with_own_leaves(rows_of(snapshot, translator, blocks), tree)
    parts = [
        _header(snapshot, format, Kind.AGGREGATED, len(rows), tree.frames),
        *_memory_plot(snapshot, blocks),
        aggregated.threads(translator.threads.names.items()),
        aggregated.stacks(format, tree),
        *(aggregated.row(format, row) for row in aggregated.in_order(format, rows)),
        aggregated.TRAILER,
    ]
    progress(len(rows), len(rows))
    return b"".join(parts)


def _memory_plot(snapshot: Snapshot, blocks: list[Block]) -> Iterator[bytes]:
    start_ms = _start_ms(snapshot)
    points = [point for point in anchors_of(snapshot) if point.rss_bytes is not None]
    arenas = held_at(points, (block for block in blocks if block.is_arena))
    for point, arena_bytes in zip(points, arenas, strict=True):
        yield aggregated.memory_snapshot(
            start_ms + point.time_ns // 1_000_000,
            point.rss_bytes or 0,
            point.live_bytes + arena_bytes,
        )


def _all(snapshot: Snapshot, format: int, translator: Translator, progress: Progress) -> bytes:
    blocks = list(translator.blocks())
    file = new_body(format, translator.tree.frames)
    write_history(snapshot, translator, file, blocks, progress)
    file.close()
    header = _header(snapshot, format, Kind.ALL, file.allocations, translator.tree.frames)
    return header + bytes(file.body)


def _header(
    snapshot: Snapshot, format: int, kind: Kind, records: int, frames: Sequence[FrameKey]
) -> bytes:
    libdest, site_packages = library_folders(frames)
    start_ms = _start_ms(snapshot)
    return Header(
        format=format,
        kind=kind,
        python_version=min(max(FIRST_PYTHON, snapshot.header["python_version"]), MAX_INT),
        records=records,
        frames=len(frames),
        start_ms=start_ms,
        end_ms=start_ms + int(snapshot.duration_seconds * 1000),
        command_line=f"fastalloc: {Path(snapshot.path).name}",
        pid=snapshot.pid & MAX_INT,
        libdest=libdest,
        site_packages=site_packages,
    ).encode()


def library_folders(frames: Sequence[FrameKey]) -> tuple[str, tuple[str, ...]]:
    """Return the standard library's folder and those of installed packages.

    Seen in the paths of the frames: the recording may come from another machine.
    """
    libraries: dict[str, int] = {}
    packages: dict[str, None] = {}
    for file in dict.fromkeys(frame.file for frame in frames):
        installed = re.match(r"(/.*?/(?:site|dist)-packages)/", file)
        if installed:
            packages[installed[1]] = None
            continue
        library = re.match(r"(/.*?/lib(?:64)?/python3\.\d+t?)/", file)
        if library:
            libraries[library[1]] = libraries.get(library[1], 0) + 1
    return max(libraries, key=libraries.__getitem__, default=""), tuple(packages)


def _start_ms(snapshot: Snapshot) -> int:
    return snapshot.header["start_time_ns"] // 1_000_000


def _silent(done: int, total: int) -> None:
    """Report nothing."""


def replace_file(destination: str | Path, content: bytes) -> None:
    """Put a file of mode 0600 in place in one step."""
    destination = Path(destination)
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{destination.name}.", dir=destination.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(temporary).replace(destination)
        except BaseException:
            Path(temporary).unlink()
            raise
    except OSError as error:
        raise ExportError(f"{destination} cannot be written: {error.strerror}.") from error
