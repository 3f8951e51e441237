"""Live samples of a span that was renamed: they go along with it, as its counts do.

The recorder moves the counts of a renamed span to the labels of its new name. Its samples keep the label that they
were taken under, for to find them among all others would cost the program; but each tells its span, and that has its
last name. So who reads sorts them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastalloc.recording.layout import Domain, Region
from fastalloc.recording.repair import count_q16

if TYPE_CHECKING:
    from fastalloc.recording.tables import Tables


def follow_renamed_spans(tables: Tables) -> None:
    """Give live samples of renamed spans the labels of the last name, and these what they hold.

    Of the high-water mark, those that were alive then and still are. A sample stays where its
    span has no such label: there its counts have stayed, too. Cost: a pass over the live table.
    """
    live, phases = tables[Region.LIVE], tables[Region.PHASES]
    span_name = tables[Region.SPANS]["name"][live["span"]]
    first = phases["span_name"][live["phase"]]
    (renamed,) = np.nonzero((live["span"] != 0) & (first != 0) & (first != span_name))
    if not len(renamed):
        return
    before = live["phase"][renamed]
    after = _labels(phases, span_name[renamed], before)
    moved = after != 0
    renamed, before, after = renamed[moved], before[moved], after[moved]
    live["phase"][renamed] = after
    of_heap = live["domain"][renamed] != Domain.ARENA
    _move_held(tables, live[renamed[of_heap]], before[of_heap], after[of_heap])


def _labels(
    phases: npt.NDArray[Any], span_name: npt.NDArray[np.uint32], before: npt.NDArray[np.uint32]
) -> npt.NDArray[np.uint32]:
    """The labels that those in `before` have in a span of that name; 0 for one that is not there."""
    outside_phases = phases["name"][before] == phases["span_name"][before]
    name = np.where(outside_phases, span_name, phases["name"][before])
    keys, wanted = _pairs(phases["span_name"], phases["name"]), _pairs(span_name, name)
    order = np.argsort(keys, kind="stable")
    found = order[np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)]
    return np.where(keys[found] == wanted, found, 0).astype(np.uint32)


def _pairs(first: npt.NDArray[np.uint32], second: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint64]:
    return first.astype(np.uint64) << np.uint64(32) | second


def _move_held(
    tables: Tables,
    samples: npt.NDArray[Any],
    before: npt.NDArray[np.uint32],
    after: npt.NDArray[np.uint32],
) -> None:
    header: Any = tables.header
    held = tables[Region.PHASES]["held"]
    # What was held at the mark is the same as now where nothing has changed since: see fa_held in layout.h.
    same = (held["peak"] != header["peak"]) | (header["at_peak"] != 0)
    for value in ("bytes", "count_q16"):
        held[f"high_water_{value}"][same] = held[f"live_{value}"][same]
    held["peak"] = header["peak"]
    counts = count_q16(samples)
    at_mark = (samples["time_ns"] <= header["high_water_ns"]) | (header["at_peak"] != 0)
    for field, values, chosen in (
        ("live_bytes", samples["weight"], slice(None)),
        ("live_count_q16", counts, slice(None)),
        ("samples", np.ones(len(samples), np.uint32), slice(None)),
        ("high_water_bytes", samples["weight"], at_mark),
        ("high_water_count_q16", counts, at_mark),
    ):
        total = held[field]
        taken = np.zeros_like(total)
        np.add.at(taken, before[chosen], values[chosen])
        total -= np.minimum(taken, total)  # a copy that does not agree with itself may hold less
        np.add.at(total, after[chosen], values[chosen])
