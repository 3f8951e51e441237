"""What grew between two snapshots, and how sure that is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from fastalloc.recording.holders import Row
    from fastalloc.recording.snapshot import Snapshot


class Growth(NamedTuple):
    """How much more a holder holds in the later snapshot. Estimated from samples."""

    key: str
    """As `holders.Row.key`."""
    change_bytes: int
    """Below 0: it holds less."""
    change_count: float
    """Blocks."""
    error_bytes: float
    """One standard error of `change_bytes`. Samples that live in both snapshots add nothing."""
    before_bytes: int
    after_bytes: int
    site: int
    """The site of the later snapshot that grew most in it; 0 if none is known."""


def growth(
    before: Snapshot, after: Snapshot, group: str = "line", limit: int | None = 20
) -> list[Growth]:
    """What holds more in `after` than in `before`, the largest change first, shrinkage last.

    The snapshots may be of one process or of two. `group` as in `Snapshot.top` (ValueError for
    another); holders that changed nothing are left out. Cost: as of four `top`s.
    """
    lasting_before, lasting_after = _lasting(before, after)
    came = _by_key(after.top(group=group, limit=None, where=~lasting_after))
    went = _by_key(before.top(group=group, limit=None, where=~lasting_before))
    held_before = _by_key(before.top(group=group, limit=None))
    held_after = _by_key(after.top(group=group, limit=None))
    changes = []
    for key in dict.fromkeys([*came, *went]):
        new, old = came.get(key), went.get(key)
        changes.append(
            Growth(
                key,
                _live_bytes(new) - _live_bytes(old),
                (new.live_count if new else 0.0) - (old.live_count if old else 0.0),
                math.hypot(new.error_bytes if new else 0.0, old.error_bytes if old else 0.0),
                _live_bytes(held_before.get(key)),
                _live_bytes(held_after.get(key)),
                new.site if new else 0,
            )
        )
    changes.sort(key=lambda change: (-change.change_bytes, change.key))
    return changes[:limit]


def _lasting(
    before: Snapshot, after: Snapshot
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which samples of each snapshot are in the other too: masks over their `live`.

    A sample is told by its address, its time and its weight (which changes when the recorder
    thins its samples out). Two processes have none in common.
    """
    if any(before.header[name] != after.header[name] for name in ("pid", "start_time_ns")):
        return np.zeros(len(before.live), bool), np.zeros(len(after.live), bool)
    names = ["address", "time_ns", "weight"]
    identities = [list(map(tuple, s.live[names].tolist())) for s in (before, after)]
    common = set(identities[0]) & set(identities[1])
    first, second = (
        np.array([identity in common for identity in some], bool) for some in identities
    )
    return first, second


def _by_key(rows: list[Row]) -> dict[str, Row]:
    return {row.key: row for row in rows}


def _live_bytes(row: Row | None) -> int:
    return row.live_bytes if row else 0
