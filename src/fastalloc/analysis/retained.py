"""What was allocated in some stretch of time, or by finished work, and is still alive."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastalloc.recording.holders import Row
    from fastalloc.recording.snapshot import Snapshot


def retained_since(
    snapshot: Snapshot,
    since_ns: int,
    until_ns: int | None = None,
    group: str = "line",
    limit: int | None = 20,
) -> list[Row]:
    """What was allocated from `since_ns` on (and before `until_ns`) and lives, the biggest first.

    Times are as in the snapshot's tables: those of two checkpoints, or a record's start_ns and
    time_ns. Rows are as `Snapshot.top` gives them.
    """
    times = snapshot.live["time_ns"]
    where = times >= since_ns
    if until_ns is not None:
        where &= times < until_ns
    return snapshot.top(group=group, limit=limit, where=where)


def retained_by_finished_spans(
    snapshot: Snapshot, group: str = "span", limit: int | None = 20
) -> list[Row]:
    """What finished spans (requests, tasks) have left behind, the biggest first.

    Caches are found here as well as leaks: ask again later whether it grows.
    """
    spans = snapshot.spans
    finished = (spans["id"] != 0) & ~spans["open"]
    return snapshot.top(group=group, limit=limit, where=finished[snapshot.live["span"]])
