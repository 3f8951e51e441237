"""What resident memory looks like: the verdict on its parts, and what to try.

A rule of thumb, spoken by the largest part; the numbers beside it are what it rests on.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from fastalloc.recording.resident import Resident
    from fastalloc.recording.snapshot import Snapshot

LEAST_BYTES = 24 << 20
"""A part that is smaller is no verdict: an idle interpreter has as much."""
LEAST_SHARE = 0.4
"""Of RSS. Memory that is free and held goes before the others: it is what could be had back."""
PEAK_SHARE = 2 / 3
"""Free in an allocator, of all that it holds: above, a peak has passed; below, live blocks lie in between."""
GROWTH_SHARE = 0.1
"""Of the live heap that has come in the later half of the recording: it keeps growing."""
LEAST_TICKS = 6
"""Of the timeline, to say whether anything keeps growing."""

TOP = "`fastalloc top --group line` says which lines hold it, `--group span` which requests"


class Verdict(NamedTuple):
    """What resident memory looks like."""

    kind: str
    """leak, in use, native, fragmentation, peak not given back, file cache, shared memory, unexplained,
    unknown, or nothing stands out."""
    bytes: int
    """Of the part that it is about."""
    share: float
    """Of RSS, 0 to 1."""
    text: str
    """Why: one clause."""
    advice: str
    """What to try; "" where nothing needs to be done."""


def verdict(snapshot: Snapshot) -> Verdict:
    """The verdict on `snapshot.resident`. Cost: the timeline, once."""
    resident = snapshot.resident
    native = resident.mapped_bytes is not None
    timeline = snapshot.timeline
    now = snapshot.duration_seconds
    seconds = np.append(timeline["time_ns"] / 1e9, now)
    grows = {
        name: keeps_growing(seconds, np.append(timeline[f"{name}_bytes"], last))
        for name, last in (("live", snapshot.live_bytes), ("rss", resident.rss_bytes))
    }
    return judge(resident, live_grows=grows["live"], rss_grows=grows["rss"], native=native)


def keeps_growing(seconds: npt.NDArray[np.float64], values: npt.NDArray[np.float64]) -> bool | None:
    """Whether the least of each later quarter of the time is above that before it, and the last above
    the second by GROWTH_SHARE. None: too few values to say. The first quarter is start-up."""
    if len(seconds) < LEAST_TICKS:
        return None
    edges = np.linspace(seconds[0], seconds[-1], 5)
    quarters = np.clip(np.searchsorted(edges, seconds, side="right") - 1, 0, 3)
    least = [
        float(values[quarters == quarter].min())
        for quarter in (1, 2, 3)
        if (quarters == quarter).any()
    ]
    if len(least) < 2:
        return None
    rises = all(before < after for before, after in pairwise(least))
    return rises and least[-1] - least[0] >= GROWTH_SHARE * float(values[-1])


def judge(
    resident: Resident, *, live_grows: bool | None, rss_grows: bool | None, native: bool
) -> Verdict:
    """The verdict on these parts. native: malloc and mmap are recorded."""
    if not resident.rss_bytes:
        return Verdict("unknown", 0, 0.0, "how much is resident is not known", "")
    freed_arenas, freed_malloc = resident.arenas_free_bytes or 0, resident.malloc_free_bytes or 0
    of_libraries = (resident.malloc_live_bytes or 0) + (resident.mapped_bytes or 0)
    groups = {
        "python": resident.python_bytes,
        "native": of_libraries,
        "free": freed_arenas + freed_malloc,
        "files": resident.file_bytes or 0,
        "shmem": resident.shmem_bytes or 0,
        "rest": resident.rest_bytes,
    }
    held_free = groups["free"] >= LEAST_SHARE * resident.rss_bytes
    name = "free" if held_free else max(groups, key=lambda each: groups[each])
    size = groups[name]
    share = size / resident.rss_bytes
    if size < LEAST_BYTES or share < LEAST_SHARE:
        text = "no part is large: neither a leak nor memory that is not given back"
        return Verdict("nothing stands out", size, share, text, "")
    if name == "free":
        return _freed(resident, size, share)
    kind, text, advice = {
        "python": lambda: _python(live_grows),
        "native": lambda: _native(native, rss_grows),
        "files": lambda: FILES,
        "shmem": lambda: SHARED,
        "rest": lambda: _rest(resident, native),
    }[name]()
    return Verdict(kind, size, share, text, advice)


FILES = (
    "file cache",
    "in pages of mapped files: the kernel drops them when memory is short",
    "nothing, unless it counts against a limit; then madvise(MADV_DONTNEED), or read() instead of mmap",
)
SHARED = (
    "shared memory",
    "in shared memory or files in tmpfs, which the kernel cannot drop",
    "close and unlink segments that are done with (multiprocessing.shared_memory, /dev/shm)",
)


def _python(grows: bool | None) -> tuple[str, str, str]:
    if grows:
        return "leak", "in Python's live blocks, and they keep growing", TOP
    since = "they do not keep growing" if grows is False else "too early to say whether they grow"
    advice = f"{TOP}; gc.freeze() before a fork keeps what is preloaded shared"
    return "in use", f"in Python's live blocks; {since}", advice


def _native(recorded: bool, grows: bool | None) -> tuple[str, str, str]:
    text = "in live blocks of C libraries (malloc, mmap), not Python's"
    if grows:
        text += ", and RSS keeps growing"
    return (
        "native",
        text,
        TOP if recorded else "start(native=True) or FASTALLOC_NATIVE=1: which lines hold it",
    )


def _rest(resident: Resident, native: bool) -> tuple[str, str, str]:
    if resident.seconds_ago is None:
        text = "outside of Python's live blocks; the process was not asked what it is"
        return "unknown", text, "ask while it runs: `fastalloc info PID`, or `fastalloc dump PID`"
    advice = "" if native else "start(native=True) records what libraries map; "
    text = "neither Python's nor malloc's: stacks of threads, other allocators, mappings"
    return "unexplained", text, f"{advice}/proc/PID/smaps lists the mappings"


def _freed(resident: Resident, size: int, share: float) -> Verdict:
    arenas, of_malloc = resident.arenas_free_bytes or 0, resident.malloc_free_bytes or 0
    if arenas > of_malloc:
        whose, live = "pymalloc's arenas", resident.python_bytes
        pinned = "an arena goes back only when all in it is freed"
        try_trapped = f"{TOP}; restart workers now and then (max_requests)"
        try_peak = f"{try_trapped}; or take less at once"
    else:
        whose, live = "malloc", resident.python_bytes + (resident.malloc_live_bytes or 0)
        pinned = f"in {resident.malloc_free_count or 0:,} pieces"
        try_trapped = "malloc_trim(0) by ctypes, MALLOC_ARENA_MAX=2 where many threads allocate, or jemalloc by LD_PRELOAD"
        try_peak = "MALLOC_TRIM_THRESHOLD_=131072, or malloc_trim(0) by ctypes after the peak"
    free = max(arenas, of_malloc)
    if free >= PEAK_SHARE * (free + live):
        text = f"freed, and kept by {whose}: most of what it holds is free ({pinned})"
        return Verdict("peak not given back", size, share, text, try_peak)
    text = f"freed, but trapped in {whose} between blocks that live ({pinned})"
    return Verdict("fragmentation", size, share, text, try_trapped)
