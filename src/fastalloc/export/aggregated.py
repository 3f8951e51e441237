"""Encoder of the AGGREGATED_ALLOCATIONS file: one row per thread, allocator and stack.

    header, memory snapshots, thread names, code objects and frames, stack tree, rows, trailer

Laws
 1. In formats 12 and 13 frame numbers are 0, 1, 2... in order. Tree nodes are numbered
    1, 2, 3... by position alone, parents first: a node written twice would shift the rest.
 2. Readers fold rows of equal leaf node and add 1 per row instead of the row's count. So
    every row gets a leaf node of its own: an alias that reads as the same frame.
 3. A row counts in a view only if its number of allocations there is not 0.
 4. `memray summary` stops at 95 % of the bytes, so the largest rows should come first. That
    is the order of the file since format 13; earlier readers keep rows in a hash table, whose
    newest entries come first, more or less: there the largest rows are written last.
"""

import struct
from collections.abc import Iterable
from typing import NamedTuple

from fastalloc.export.records import (
    Allocator,
    CodeObjects,
    allocator_number,
    place,
    switch_to,
    thread_name,
)
from fastalloc.export.stacks import FrameKey, StackTree
from fastalloc.export.wire import MASK_64, Encode, cstring, i32, u8, u32, u64, uvarint

MEMORY_SNAPSHOT = b"\x01"
ROW = b"\x02"
STACK = b"\x03"
FRAME = b"\x04"
TRAILER = b"\x0f"
ENTRY_FRAME = u8(1)

# thread, allocator, native frame, leaf node, native generation, then the four amounts
_row = struct.Struct("<QB7xQQQQQQQ").pack


class Row(NamedTuple):
    """What one thread holds, and held at the high-water mark, by one allocator at one stack."""

    thread: int
    allocator: Allocator
    node: int
    high_water_count: int
    live_count: int
    high_water_bytes: int
    live_bytes: int


def memory_snapshot(ms: int, rss: int, heap: int) -> bytes:
    """Encode a point of the memory plot; `ms` counts from the epoch."""
    return MEMORY_SNAPSHOT + u64(ms) + u64(rss) + u64(heap)


def threads(names: Iterable[tuple[int, str]]) -> bytes:
    """Encode the names of threads."""
    return b"".join(switch_to(number) + thread_name(name) for number, name in names)


def stacks(format: int, tree: StackTree) -> bytes:
    """Encode every frame and every stack of a tree."""
    if format >= 12:
        number: Encode = uvarint
        parent_number: Encode = uvarint
        parts = _frames_with_code(tree.frames)
    else:
        number, parent_number = u64, u32
        parts = _frames_with_names(tree.frames)
    parts += [
        STACK + number(frame) + parent_number(parent)
        for frame, parent in zip(tree.leaf_frames[1:], tree.parents[1:], strict=True)
    ]
    return b"".join(parts)


def _frames_with_code(frames: list[FrameKey]) -> list[bytes]:
    code_objects = CodeObjects()
    parts = []
    for number, frame in enumerate(frames):
        definition, code, offset = code_objects.locate(*frame)
        parts += [definition, FRAME, uvarint(number), place(code, offset), ENTRY_FRAME]
    return parts


def _frames_with_names(frames: list[FrameKey]) -> list[bytes]:
    return [
        b"".join(
            (
                FRAME,
                u64(number),
                cstring(frame.function),
                cstring(frame.file),
                i32(frame.line),
                ENTRY_FRAME,
            )
        )
        for number, frame in enumerate(frames)
    ]


def with_own_leaves(rows: Iterable[Row], tree: StackTree) -> list[Row]:
    """Return the rows, each with a leaf node that no other row has (law 2)."""
    seen: dict[int, int] = {}
    result = []
    for row in rows:
        alias = seen.get(row.node, 0)
        seen[row.node] = alias + 1
        result.append(row._replace(node=tree.alias(row.node, alias)))
    return result


def in_order(format: int, rows: Iterable[Row]) -> list[Row]:
    """Return the rows in the order of the file (law 4)."""
    return sorted(
        rows, key=lambda row: (row.high_water_bytes, row.live_bytes), reverse=format >= 13
    )


def row(format: int, row: Row) -> bytes:
    """Encode a row."""
    return ROW + _row(
        row.thread,
        allocator_number(format, row.allocator),
        0,
        row.node,
        0,
        min(row.high_water_count, MASK_64),
        min(row.live_count, MASK_64),
        min(row.high_water_bytes, MASK_64),
        min(row.live_bytes, MASK_64),
    )
