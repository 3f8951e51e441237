"""What can be worked out again when a process died while it wrote its recording."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastalloc.recording.layout import COUNT_SCALE, Domain, Region

if TYPE_CHECKING:
    from fastalloc.recording.tables import Tables

_HELD_BY = {
    Region.SITES: "site",
    Region.SPANS: "span",
    Region.PHASES: "phase",
    Region.THREAD_NAMES: "thread_name",
}


def repair(tables: Tables) -> None:
    """Work out again, from the live samples, what a process that died while writing left unsure.

    These are `header.live_*` and every `held.live_*`. What was held at the high-water mark
    cannot be worked out again; it may be wrong by the one sample that was being written.
    """
    live = tables[Region.LIVE]
    live = live[live["address"] != 0]
    of_heap = live["domain"] != Domain.ARENA
    counts = count_q16(live)
    for region, reference in _HELD_BY.items():
        counted = np.ones(len(live), bool) if region is Region.SITES else of_heap
        held, size = tables[region]["held"], len(tables[region])
        where = live[reference][counted]
        held["live_bytes"] = _sum(where, live["weight"][counted], size)
        held["live_count_q16"] = _sum(where, counts[counted], size)
        held["samples"] = np.bincount(where, minlength=size)
    header: Any = tables.header
    header["live_bytes"] = live["weight"][of_heap].sum()
    header["live_count_q16"] = counts[of_heap].sum()
    header["live_samples"] = of_heap.sum()
    header["high_water_bytes"] = max(header["high_water_bytes"], header["live_bytes"])


def _sum(
    where: npt.NDArray[np.uint32], values: npt.NDArray[np.uint64], size: int
) -> npt.NDArray[np.uint64]:
    sums = np.zeros(size, np.uint64)
    np.add.at(sums, where, values)
    return sums


def count_q16(samples: npt.NDArray[np.void]) -> npt.NDArray[np.uint64]:
    """How many allocations each sample stands for, in 1/65536."""
    size = np.maximum(samples["size"], 1).astype(np.float64)
    count = np.where(samples["size"] == 0, 1.0, samples["weight"] / size)
    return (np.minimum(count, 2.0**40) * COUNT_SCALE).astype(np.uint64)
