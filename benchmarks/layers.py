"""What each layer of fastalloc costs: differences between modes and options that anyone may choose.

A layer is what one variant has and the one before has not; where the time of a sample goes is told by source file.
"""

from __future__ import annotations

import math
from fnmatch import fnmatch
from typing import Any

from benchmarks import comparison, counting, ratios
from benchmarks.tables import Table

Document = dict[str, Any]

LAYERS = (
    ("an idle thread, as the watcher is", "thread", "none"),
    ("hooks as ours that only forward", "forward", "none"),
    ("counters and countdown", "counters", "forward"),
    ("sampling, one frame: live table, recording", "shallow", "counters"),
    ("stacks of more than one frame", "light", "shallow"),
    ("light mode, all of these", "light", "none"),
    ("a span around it", "span", "light"),
    ("native allocations, too", "native", "light"),
    ("aggressive: eight times the samples", "aggressive", "light"),
    ("standby, instead of light", "standby", "none"),
    ("... of it an idle thread, and hooks on RAW that only forward", "forward_raw", "none"),
    ("hooks on everything that only forward", "forward_all", "none"),
)
"""Title, what has the layer, and what has not."""
PROFILER_OF = {"span": "spans"}
"""Where `compare` has another name for it than `counting`."""

ROOMS = {
    "hooks, countdown, sampler": ("hooks*.c", "hook_parts.h", "sample*.*"),
    "walking the stack": (
        "stack.*",
        "cpython_*.h",
        "native_frames.*",
        "unwind.*",
        "unicodeobject.h",
    ),
    "interning stacks": ("sites.*", "strings.*", "id_index.*"),
    "live table": ("live.*", "held.h", "sweep.*"),
    "recording: ring, timeline, counters": ("records.*", "recording.*", "layout.h", "lost_file.*"),
    "spans and phases": ("scopes.*", "spans.*", "tasks.*", "labels.*"),
    "guard": ("guard.*", "usage.*", "limits.*", "climb.*"),
    "locks, clock, thread's data": (
        "threads.*",
        "pthread_*",
        "clock_gettime*",
        "errno-loc.c",
        "own_cpu.h",
    ),
    "the allocation itself": ("malloc.c", "arena.c", "obmalloc*", "raw_memory.*"),
}
"""Source files, as patterns, of each row of `sample`."""
REST = "the rest: loop, interpreter"


def table(compared: list[Document], counted: list[Document], tracked: list[Document]) -> Table:
    """One row per layer: CPU time of all workloads, and instructions of one small pair."""
    shown = Table(
        "What each layer costs",
        [
            "",
            *(f"{comparison.label(each)}: CPU" for each in compared),
            *(f"{comparison.label(each)}: instructions" for each in counted),
        ],
        note="CPU: percent of a process without a profiler, geometric mean over the workloads; ± is one standard error. "
        f"Instructions: of one {counting.PAIR}, samples included. Trackers: over a request without, over the pieces "
        "of work in their own table.",
    )
    for title, having, lacking in LAYERS:
        row = [title]
        row += [_percent(each, having, lacking) for each in compared]
        row += [_instructions(each, having, lacking) for each in counted]
        if set(row[1:]) != {"-"}:
            shown.rows.append(row)
    variants = dict.fromkeys(v for d in tracked for each in d["works"].values() for v in each)
    for variant in list(variants)[1:]:
        row = [f"trackers, {variant}"]
        by_label = {comparison.label(d): _tracked(d, variant) for d in tracked}
        row += [by_label.get(comparison.label(each), "-") for each in compared]
        row += ["-"] * len(counted)
        if set(row[1:]) != {"-"}:
            shown.rows.append(row)
    return shown


def _percent(document: Document, having: str, lacking: str) -> str:
    """The mean of a profiler less that of another, made side by side."""
    first, second = (PROFILER_OF.get(name, name) for name in (having, lacking))
    found = {
        workload: ratio
        for workload, each in document["workloads"].items()
        if first in each["seconds"] and second in each["seconds"]
        if (ratio := ratios.compare(each["seconds"][first], _under(each["seconds"], second)))
    }
    if not found or len(found) < len(document["workloads"]):
        return "-"
    mean, error = ratios.geomean_of(found)
    return f"{100 * (mean - 1):+.2f} ± {100 * error:.2f}" if math.isfinite(error) else "-"


def _under(seconds: dict[str, ratios.Rounds], lacking: str) -> ratios.Rounds:
    return ratios.base(seconds, lacking) if lacking == "none" else seconds[lacking]


def _instructions(document: Document, having: str, lacking: str) -> str:
    each = document["pairs"].get(counting.PAIR, {})
    if having not in each or lacking not in each:
        return "-"
    return f"{each[having] - each[lacking]:+.1f}"


def _tracked(document: Document, variant: str) -> str:
    works = [each for each in document["works"].values() if variant in each]
    base = next(iter(works[0])) if works else ""
    mean = ratios.geomean(each[variant] / each[base] for each in works) if works else math.nan
    return f"{100 * (mean - 1):+.1f}" if works else "-"


def sample(counted: list[Document]) -> Table:
    """Where the instructions of one sample go, by what the source files are for."""
    found = [(comparison.label(d), each) for d in counted for each in d.get("sample", {}).values()]
    shown = Table(
        "Instructions of one sample",
        ["", *(label for label, _ in found)],
        note="An allocation that is a sample, its stack of some 30 frames, and its free; by source file. Light mode takes one "
        "such every 512 KiB.",
    )
    rooms = [_by_room(each) for _, each in found]
    for room in (*ROOMS, REST) if found else ():
        shown.rows.append([room, *(f"{each.get(room, 0):,.0f}" for each in rooms)])
    if found:
        shown.rows.append(["in all", *(f"{sum(each.values()):,.0f}" for each in rooms)])
    return shown


def native_sample(counted: list[Document]) -> Table:
    """Instructions of a native sample, without and with its C functions."""
    shown = Table(
        "Instructions of one native sample",
        ["", *(comparison.label(each) for each in counted)],
        note=f"Of {counting.NATIVE_PAIR}, each recorded, over one without fastalloc; one Python frame and the C functions "
        "of a small extension above it.",
    )
    for title, variant in (
        ("without native frames", "each"),
        ("native_frames=16", "each, C frames"),
    ):
        cells = []
        for document in counted:
            each = document["pairs"].get(counting.NATIVE_PAIR, {})
            known = variant in each and "none" in each
            cells.append(f"{each[variant] - each['none']:,.0f}" if known else "-")
        if {*cells} - {"-"}:
            shown.rows.append([title, *cells])
    return shown


def _by_room(by_file: dict[str, float]) -> dict[str, float]:
    found: dict[str, float] = {}
    for file, value in by_file.items():
        rooms = (r for r, patterns in ROOMS.items() if any(fnmatch(file, p) for p in patterns))
        room = next(rooms, REST)
        found[room] = found.get(room, 0.0) + value
    return found
