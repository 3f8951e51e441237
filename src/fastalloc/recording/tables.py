"""A recording's tables, copied and checked: nothing in the file is trusted before.

The recorder makes `sequence` odd while it writes. Copied between two equal, even values, the
tables agree with each other. They may disagree in a process that writes all the time or died
while writing; `checks` says what then becomes of references that lead nowhere.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastalloc.recording import layout
from fastalloc.recording.errors import RecordingError
from fastalloc.recording.layout import ENTRY, HEADER, RINGS, Region
from fastalloc.recording.process import writer_lives

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fastalloc.recording.source import Source

MAX_BYTES = 1 << 30
"""Of tables in use. A recording has some MiB; a header that says more is damaged."""
ATTEMPTS = 40
PAUSE_SECONDS = 0.0005
"""Between attempts at a consistent copy: 20 ms in all, then the copy is taken as it is."""


@dataclass
class Tables:
    """What a recording held at one instant."""

    path: Path
    header: np.void
    """As layout.HEADER."""
    entries: dict[Region, npt.NDArray[Any]]
    """Per region its entries in use, as layout.ENTRY; rings with the oldest entry first."""
    consistent: bool
    alive: bool
    """The process was recording at that instant (it lives, and had not stopped)."""

    def __getitem__(self, region: Region) -> npt.NDArray[Any]:
        return self.entries[region]


def copy_tables(source: Source, *, is_dump: bool = False) -> Tables:
    """Copy the tables of a recording; in a dump, nobody writes any more.

    Raises RecordingError. Cost: about 1 ms for 4 MiB in use, some 40 times that if the process
    never stops writing.
    """
    header = read_header(source)
    alive = not is_dump and bool(
        header["state"] == layout.State.RUNNING
        and writer_lives(
            int(header["pid"]),
            int(header["process_start_ticks"]),
            int(header["pid_namespace"]),
            locked=source.is_locked(),
        )
    )
    # Kept between attempts: a process that reads itself would sample its own large arrays.
    buffers: dict[Region, npt.NDArray[Any]] = {}
    consistent = False
    for _ in range(ATTEMPTS):
        if not header["sequence"] % 2:
            entries = _read_entries(source, header, buffers)
            after = read_header(source)
            consistent = bool(after["sequence"] == header["sequence"])
            if consistent:
                break
        elif not alive:
            break  # it died while writing: there is nothing to wait for
        time.sleep(PAUSE_SECONDS)
        header = read_header(source)
    if not consistent:
        entries = _read_entries(source, header, buffers)
        after = read_header(source)
        if header["sweeping"] or after["sweeping"] or after["sweeps"] != header["sweeps"]:
            _forget_stacks(entries)
    for region in RINGS:
        _, used, capacity, _ = header["regions"][region].tolist()
        if used > capacity:
            entries[region] = np.roll(entries[region], -(used % capacity))
    return Tables(source.path, header, entries, consistent, alive)


def _forget_stacks(entries: dict[Region, npt.NDArray[Any]]) -> None:
    """Nodes and sites were being moved: which stack is whose cannot be told any more."""
    entries[Region.NODES] = entries[Region.NODES][:1]
    entries[Region.SITES] = entries[Region.SITES][:1]
    entries[Region.SITES]["node"] = 0
    entries[Region.LIVE]["site"] = 0
    entries[Region.FREED]["site"] = 0
    entries[Region.EVENTS]["node"] = 0


def read_header(source: Source) -> np.void:
    """The header, as layout.HEADER: of a recording of this layout that is as long as it says."""
    path, size = source.path, source.size
    start = np.zeros(min(size, HEADER.itemsize), np.uint8)
    source.fill(start.data, 0)
    found = start[: len(layout.MAGIC)].tobytes()
    if not any(found) and source.is_locked():
        raise RecordingError(f"{path}: is being created by a running process; try again")
    if size == 0:
        raise RecordingError(f"{path}: is empty, so nothing was recorded into it; delete it")
    if found != layout.MAGIC:
        unfinished = not any(found)
        raise RecordingError(
            f"{path}: is a recording whose creation was not finished; delete it"
            if unfinished
            else f"{path}: is no fastalloc recording (it begins with {found!r}); check the path"
        )
    if len(start) < HEADER.itemsize:
        raise RecordingError(
            f"{path}: is cut short (its {size} bytes do not hold a header); copy it again"
        )
    header: np.void = start.view(HEADER)[0]
    version = int(header["layout_version"])
    if version != layout.LAYOUT_VERSION:
        newer = version > layout.LAYOUT_VERSION
        raise RecordingError(
            f"{path}: has layout version {version}, but this fastalloc reads version "
            f"{layout.LAYOUT_VERSION}; read it with "
            f"{'a newer' if newer else 'an older'} fastalloc"
        )
    if int(header["file_bytes"]) > size:
        raise RecordingError(
            f"{path}: is cut short ({size} of {int(header['file_bytes'])} bytes); copy it again"
        )
    return header


def _read_entries(
    source: Source, header: np.void, buffers: dict[Region, npt.NDArray[Any]]
) -> dict[Region, npt.NDArray[Any]]:
    """The entries in use, as they lie in the file; in `buffers`, which are made as needed."""
    entries = {}
    for region, offset, used in _regions(source.path, header):
        buffer = buffers.get(region)
        if buffer is None or len(buffer) < used:
            buffer = buffers[region] = np.empty(used + used // 8, ENTRY[region])
        entries[region] = buffer[:used]
        if used:
            source.fill(entries[region].view(np.uint8).data.cast("B"), offset)
    return entries


def _regions(path: Path, header: np.void) -> Iterator[tuple[Region, int, int]]:
    """Yield (region, offset, entries to read), all checked: in the file, and apart."""
    in_use = 0
    free_from = int(header["header_bytes"])
    if free_from < HEADER.itemsize:
        raise damaged(path, f"its header claims to be {free_from} bytes long")
    regions = zip(Region, header["regions"].tolist(), strict=True)
    for region, (offset, used, capacity, stride) in sorted(regions, key=lambda item: item[1][0]):
        if capacity == 0 and used == 0:
            yield region, 0, 0
            continue
        name = region.name.lower()
        if stride != ENTRY[region].itemsize:
            raise damaged(path, f"an entry of {name} claims to be {stride} bytes long")
        if offset < free_from or offset + capacity * stride > int(header["file_bytes"]):
            raise damaged(path, f"{name} lies outside the file or in another table")
        if used > capacity and (region not in RINGS or not capacity):
            raise damaged(path, f"{name} has more entries in use ({used}) than it holds")
        free_from = offset + capacity * stride
        in_use += min(used, capacity) * stride
        if in_use > MAX_BYTES:
            raise damaged(path, f"its tables claim more than {MAX_BYTES} bytes")
        yield region, offset, min(used, capacity)


def entries_in_use(path: Path, header: np.void) -> Iterator[tuple[int, int]]:
    """Yield (offset, bytes) of what is in use of each region, all checked."""
    for region, offset, used in _regions(path, header):
        yield offset, used * ENTRY[region].itemsize


def damaged(path: Path, what: str) -> RecordingError:
    """The error for a file whose content cannot be right."""
    return RecordingError(f"{path}: is damaged ({what}); copy it again or read another recording")
