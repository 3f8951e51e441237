"""Workers of one master: how many ended badly, and which is the odd one."""

from __future__ import annotations

from statistics import median_low
from typing import TYPE_CHECKING, Any, NamedTuple

from fastalloc.analysis.growth import growth
from fastalloc.analysis.lives import overlapping

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from fastalloc.analysis.endings import Ending
    from fastalloc.analysis.growth import Growth
    from fastalloc.analysis.lives import Life
    from fastalloc.recording.snapshot import Snapshot

ODD_BYTES = 8 << 20
"""A worker that holds no more than this beyond the middle one is not odd for it."""


class Fleet(NamedTuple):
    """The recorded workers of one master. Those that the master replaced count too."""

    parent_pid: int
    program: str
    pids: list[int]
    """The newest last."""
    alive: int
    died_badly: list[int]
    odd_pid: int
    """The worker that stands out; 0 if none does."""
    odd_reason: str
    middle_pid: int
    """The worker that it was compared with; 0 if none."""
    more: Growth | None
    """By the program's own line: what the odd one holds that the middle one does not."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**self._asdict(), "more": self.more._asdict() if self.more else None}


def fleets(lives: Sequence[Life], endings: Mapping[Path, Ending]) -> list[Fleet]:
    """The fleets among recorded processes: those of one parent and program, two or more, of which
    each lived at the same time as another. Containers that follow each other may number all alike.

    endings: by recording, of those that ended. Cost: as of a `growth` for each fleet.
    """
    groups: dict[tuple[object, ...], list[Life]] = {}
    for each in lives:
        snapshot = each.snapshot
        if not snapshot.parent_pid:  # it lives outside of the pid namespace: no master that we know
            continue
        key = (
            each.boot_id,
            snapshot.header["pid_namespace"],
            snapshot.parent_pid,
            str(snapshot.options.get("program", "")),
        )
        groups.setdefault(key, []).append(each)
    workers = [
        [each.snapshot for each in together]
        for group in groups.values()
        for together in overlapping(group)
    ]
    return [_fleet(each, endings) for each in workers if len(each) > 1]


def _fleet(workers: list[Snapshot], endings: Mapping[Path, Ending]) -> Fleet:
    bad = [worker for worker in workers if worker.path in endings and endings[worker.path].is_bad]
    by_size = sorted(workers, key=_live_bytes)
    middle = median_low(range(len(by_size)))
    largest = by_size[-1]
    ordinary = by_size[middle] if by_size[middle] is not largest else by_size[0]
    odd, reason = None, ""
    if len(bad) == 1 and len(workers) > 2:
        odd, reason = bad[0], "it alone died badly"
    elif largest.live_bytes > 2 * ordinary.live_bytes + ODD_BYTES:
        odd, reason = largest, "it held more than twice what the middle one held"
    if odd is ordinary:
        ordinary = by_size[0] if by_size[0] is not odd else by_size[1]
    more = growth(ordinary, odd, group="own_line", limit=1) if odd is not None else []
    return Fleet(
        workers[0].parent_pid,
        str(workers[0].options.get("program", "")),
        [worker.pid for worker in workers],
        sum(worker.state == "running" for worker in workers),
        [worker.pid for worker in bad],
        odd.pid if odd is not None else 0,
        reason,
        ordinary.pid if odd is not None else 0,
        more[0] if more and more[0].change_bytes > 0 else None,
    )


def _live_bytes(snapshot: Snapshot) -> int:
    return snapshot.live_bytes
