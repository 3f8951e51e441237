"""What resident memory consists of: the recorder's last look at it, and the live heap, put side by side.

The kernel counts pages, allocators count blocks, samples estimate: the parts come from all three, so each
is cut to what the kernel says is resident at all. What was not told is None, never a guess.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastalloc.recording.layout import UNKNOWN, Domain

if TYPE_CHECKING:
    from fastalloc.recording.snapshot import Snapshot

SMALL_BYTES = 512
"""Up to here objects lie in pymalloc's arenas; what is larger it asks of malloc."""
FRESH_SECONDS = 10.0
"""An older look tells of another heap than the recording's."""


class Resident(NamedTuple):
    """The parts of RSS, in bytes. They add up to `rss_bytes`, if none is None."""

    rss_bytes: int
    """0: not known."""
    python_bytes: int
    """Python's blocks: those in arenas as pymalloc counts them, else estimated; larger ones estimated."""
    python_error_bytes: float
    """One standard error of what is estimated of it."""
    arenas_free_bytes: int | None
    """Held by pymalloc for small objects, and free."""
    malloc_live_bytes: int | None
    """Blocks of malloc that are not Python's, or are from before the start."""
    malloc_live_error_bytes: float
    """One standard error: Python's part of malloc is an estimate."""
    malloc_free_bytes: int | None
    """Held by malloc, and free: trapped between live blocks, or not given back yet."""
    malloc_free_count: int | None
    """The pieces that these lie in."""
    mapped_bytes: int | None
    """Anonymous mappings that libraries made (recorded with `native` only; estimated)."""
    file_bytes: int | None
    """Pages of mapped files: code, libraries, data."""
    shmem_bytes: int | None
    """Shared memory, and files in tmpfs."""
    own_bytes: int | None
    """The recorder's own share: its file and its tables."""
    rest_bytes: int
    """What none of these explains: the program's data, stacks of threads, other allocators; and all parts that are None."""
    absent_bytes: int
    """What allocators count beyond what is resident: never touched, or swapped out."""
    seconds_ago: float | None
    """The age of the look at the snapshot's instant; None: there was none, or it is older than
    `FRESH_SECONDS` and tells of another heap. Then most parts are None."""


def resident(snapshot: Snapshot, look: np.void) -> Resident:
    """From the header's `resident`. Cost: one pass over the live samples."""
    told = {
        name: None if not look["time_ns"] or value == UNKNOWN else int(value)
        for name, value in zip(look.dtype.names or (), look.tolist(), strict=True)
    }
    age = snapshot.duration_seconds - (told["time_ns"] or 0) / 1e9
    if told["time_ns"] is None or age > FRESH_SECONDS:
        return _unasked(snapshot)
    parts = _Parts(snapshot, told)
    return parts.resident(max(age, 0.0))


def _estimates(snapshot: Snapshot) -> dict[str, tuple[float, float]]:
    """Bytes and standard error of the live heap: small, large (Python's), mapped."""
    live = snapshot.live
    weight, domain = live["weight"].astype(np.float64), live["domain"]
    variance = weight * np.maximum(weight - live["size"], 0.0)
    python = np.isin(domain, (Domain.RAW, Domain.MEM, Domain.OBJ))
    small = python & (domain != Domain.RAW) & (live["size"] <= SMALL_BYTES)
    kinds = {"small": small, "large": python & ~small, "mapped": domain == Domain.MMAP}
    return {
        name: (float(weight[of].sum()), math.sqrt(variance[of].sum())) for name, of in kinds.items()
    }


def _unasked(snapshot: Snapshot) -> Resident:
    """Of a process that nobody asked in time: the live heap, and that there is more."""
    estimates = _estimates(snapshot)
    small, large = estimates["small"], estimates["large"]
    rss = snapshot.rss_bytes
    claimed = round(small[0] + large[0])
    python = min(claimed, rss) if rss else claimed
    return Resident(
        rss_bytes=rss,
        python_bytes=python,
        python_error_bytes=math.hypot(small[1], large[1]),
        arenas_free_bytes=None,
        malloc_live_bytes=None,
        malloc_live_error_bytes=0.0,
        malloc_free_bytes=None,
        malloc_free_count=None,
        mapped_bytes=None,
        file_bytes=None,
        shmem_bytes=None,
        own_bytes=None,
        rest_bytes=max(rss - python, 0),
        absent_bytes=claimed - python,
        seconds_ago=None,
    )


class _Parts:
    """Hands out the anonymous pages, to who is surest to have touched his own first."""

    def __init__(self, snapshot: Snapshot, told: dict[str, int | None]) -> None:
        self.told = told
        self.estimates = _estimates(snapshot)
        self.native = any(snapshot.live["domain"] >= Domain.MALLOC) or bool(
            _option(snapshot, "native")
        )
        kinds = [told[name] for name in ("anon_bytes", "file_bytes", "shmem_bytes")]
        self.rss = snapshot.rss_bytes if None in kinds else sum(kind or 0 for kind in kinds)
        self.anon_left = self.rss if kinds[0] is None else kinds[0]
        self.absent = 0

    def take(self, claimed: float | None) -> int | None:
        """What of the claim is resident at most."""
        if claimed is None:
            return None
        wanted = max(round(claimed), 0)
        got = min(wanted, self.anon_left)
        self.anon_left -= got
        self.absent += wanted - got
        return got

    def less_own(self, kind: str) -> int | None:
        """Pages of a kind, without ours."""
        of_all, own = self.told[f"{kind}_bytes"], self.told[f"own_{kind}_bytes"]
        return None if of_all is None else max(of_all - (own or 0), 0)

    def resident(self, age: float) -> Resident:
        told, estimates = self.told, self.estimates
        own_anon = self.take(told["own_anon_bytes"])
        in_arenas, held = told["arena_live_bytes"], told["arena_bytes"]
        pymalloc = in_arenas is not None and held is not None
        (small, small_error), (large, large_error) = estimates["small"], estimates["large"]
        python = (self.take(in_arenas if pymalloc else small) or 0) + (self.take(large) or 0)
        error = large_error if pymalloc else math.hypot(small_error, large_error)
        arenas_free = (
            self.take(held - in_arenas) if held is not None and in_arenas is not None else None
        )
        of_malloc = told["malloc_live_bytes"]
        # Without pymalloc the small objects are malloc's, too.
        of_python = large if pymalloc else large + small
        malloc_live = self.take(None if of_malloc is None else of_malloc - of_python)
        malloc_free = self.take(told["malloc_free_bytes"])
        mapped = self.take(estimates["mapped"][0]) if self.native else None
        own_parts = [own_anon, told["own_file_bytes"], told["own_shmem_bytes"]]
        own = None if None in own_parts else sum(part or 0 for part in own_parts)
        files, shmem = self.less_own("file"), self.less_own("shmem")
        parts = (python, arenas_free, malloc_live, malloc_free, mapped, files, shmem, own)
        return Resident(
            rss_bytes=self.rss,
            python_bytes=python,
            python_error_bytes=error,
            arenas_free_bytes=arenas_free,
            malloc_live_bytes=malloc_live,
            malloc_live_error_bytes=error if of_malloc is not None else 0.0,
            malloc_free_bytes=malloc_free,
            malloc_free_count=told["malloc_free_count"],
            mapped_bytes=mapped,
            file_bytes=files,
            shmem_bytes=shmem,
            own_bytes=own,
            rest_bytes=max(self.rss - sum(part or 0 for part in parts), 0),
            absent_bytes=self.absent,
            seconds_ago=age,
        )


def _option(snapshot: Snapshot, name: str) -> object:
    options = snapshot.options.get("options")
    return options.get(name) if isinstance(options, dict) else None
