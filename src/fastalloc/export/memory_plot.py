"""How large the live heap was, and when: what the recording knows without its samples."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fastalloc.export.blocks import Block
    from fastalloc.recording.reader import Snapshot


class Anchor(NamedTuple):
    """An instant at which the size of the live heap is known."""

    time_ns: int
    live_bytes: int
    rss_bytes: int | None  # None: not a point of the memory plot


def anchors_of(snapshot: Snapshot) -> list[Anchor]:
    """Return what is known of the heap's size, in order of time; the last is the snapshot."""
    timeline = snapshot.timeline
    anchors = [
        Anchor(*tick)
        for tick in zip(
            *(timeline[name].tolist() for name in ("time_ns", "live_bytes", "rss_bytes")),
            strict=True,
        )
    ]
    header = snapshot.header
    if not header["at_peak"] and header["high_water_bytes"]:
        anchors.append(Anchor(header["high_water_ns"], header["high_water_bytes"], None))
    end_ns = int(snapshot.duration_seconds * 1e9)
    now = max([end_ns, header["updated_ns"], *(anchor.time_ns for anchor in anchors)])
    anchors.sort(key=lambda anchor: anchor.time_ns)
    anchors.append(Anchor(now, snapshot.live_bytes, snapshot.rss_bytes))
    return anchors


def held_at(anchors: Sequence[Anchor], blocks: Iterable[Block]) -> list[int]:
    """Return how many bytes the blocks held at each anchor."""
    changes = []
    for block in blocks:
        changes.append((block.time_ns, block.weight))
        if block.freed_ns is not None:
            changes.append((max(block.freed_ns, block.time_ns), -block.weight))
    changes.sort()
    times = [time for time, _ in changes]
    held = [0, *accumulate(change for _, change in changes)]
    return [held[bisect_right(times, anchor.time_ns)] for anchor in anchors]
