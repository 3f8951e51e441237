"""Light mode beside hooks on everything that do nothing but forward: by workload, in time and in instructions.

Whoever hooks with PyMem_SetAllocator and hooks every function, as all others do, cannot be cheaper than those.
"""

from __future__ import annotations

from typing import Any

from benchmarks import comparison
from benchmarks.ratios import Ratio, compare
from benchmarks.tables import Table

Document = dict[str, Any]
MINE, FLOOR = "light", "forward_all"


def times(document: Document) -> dict[str, Ratio]:
    """CPU time of light mode over that of the hooks, by workload."""
    found = {}
    for workload, measured in document["workloads"].items():
        seconds = measured["seconds"]
        if MINE in seconds and FLOOR in seconds:
            ratio = compare(seconds[MINE], seconds[FLOOR])
            if ratio:
                found[workload] = ratio
    return found


def counts(document: Document) -> dict[str, float]:
    """Instructions of light mode over those of the hooks, by workload."""
    return {
        workload: each[MINE] / each[FLOOR]
        for workload, each in document["workloads"].items()
        if MINE in each and FLOOR in each
    }


def table(compared: list[Document], counted: list[Document]) -> Table:
    """One row per workload."""
    timed = [(comparison.label(each), times(each)) for each in compared]
    summed = [(comparison.label(each), counts(each)) for each in counted]
    timed = [(label, each) for label, each in timed if each]
    summed = [(label, each) for label, each in summed if each]
    shown = Table(
        "Below hooks that forward everything",
        [
            "",
            *(f"{label}: CPU" for label, _ in timed),
            *(f"{label}: instructions" for label, _ in summed),
        ],
        note="Light mode over hooks on every allocator function that only forward, both in the same turns: under 1, it is "
        "cheaper than they. **!**: over 1 by more than two standard errors; (!): by less, which may be noise. Light has a "
        "watcher; what a second thread costs by itself (none, with an idle thread) is in its part of the ratio alone. "
        "Instructions have no noise, but weigh all the same: of a call through a pointer, which costs time, there is one.",
    )
    for workload in dict.fromkeys(name for _, each in [*timed, *summed] for name in each):
        row = [workload]
        for _, ratios in timed:
            ratio = ratios.get(workload)
            mark = (
                " **!**" if ratio and ratio.above(1) else " (!)" if ratio and ratio.mean > 1 else ""
            )
            row.append(f"{ratio.mean:.3f} ± {ratio.error:.3f}{mark}" if ratio else "-")
        for _, each in summed:
            value = each.get(workload)
            row.append("-" if value is None else f"{value:.4f}{' **!**' if value > 1 else ''}")
        shown.rows.append(row)
    return shown
