"""Processes that have never been, told allocation by allocation, with what memray must say of them.

A story writes a recording, and keeps a model of its own beside it: plain lists of blocks. Tests
compare what memray reads from an export with the model, never with the exporter's own sums.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import memray

from fastalloc.recording.layout import Region
from fastalloc.recording.reader import read
from tests.recording.synthetic import SyntheticRecording

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from fastalloc.recording.reader import Snapshot

Line = tuple[str, str, int]
Stack = tuple[Line, ...]  # leaf first

MAIN: Line = ("main", "/app/main.py", 3)
LOAD: Line = ("load", "/app/orders.py", 10)
PARSE: Line = ("parse", "/usr/lib/python3.11/json/decoder.py", 22)
RENDER: Line = ("render", "/srv/env/lib/python3.11/site-packages/templates/engine.py", 120)
NO_STACK: Line = ("<no Python stack>", "", 0)

MS = 1_000_000
START_MS = 1_700_000_000_000


class Block(NamedTuple):
    """An allocation chosen as a sample."""

    stack: Stack
    tid: int
    thread: str
    domain: str
    size: int
    weight: int
    span: str
    phase: str

    @property
    def allocations(self) -> float:
        """How many allocations it stands for."""
        return self.weight / self.size if self.size else 1.0

    @property
    def leaf(self) -> Line:
        """The line that allocated."""
        return self.stack[0] if self.stack else NO_STACK


@dataclass
class Story:
    """A process whose every sample is known; time passes with each event."""

    ring: int = 1000
    mode: str = "light"
    step_ns: int = 10 * MS
    now: int = 0
    live: dict[int, Block] = field(default_factory=dict)
    at_high_water: list[Block] = field(default_factory=list)
    ticks: list[tuple[int, int, int]] = field(default_factory=list)
    freed: list[Block] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.recording = SyntheticRecording(
            mode=self.mode, capacity={Region.FREED: self.ring}, duration_ns=0
        )
        self._spans: dict[str, int] = {"": 0}
        self._most = 0

    def allocate(
        self,
        stack: Stack = (LOAD, MAIN),
        *,
        size: int = 100,
        weight: int | None = None,
        tid: int = 4242,
        thread: str = "MainThread",
        domain: str = "OBJ",
        span: str = "",
        phase: str = "startup",
        address: int | None = None,
        lasti: int = 0,
    ) -> int:
        """Let a sample be taken; returns a number to free it by."""
        self.now += self.step_ns
        block = Block(stack, tid, thread, domain, size, weight or size, span if span else "", phase)
        rec = self.recording
        if span not in self._spans:
            self._spans[span] = rec.span(span, start_ns=self.now)
        sample = rec.live(
            size=block.size,
            weight=block.weight,
            site=rec.site(stack, domain=domain, lasti=lasti),
            span=self._spans[span],
            phase=rec.phase(phase, span),
            thread=thread,
            tid=tid,
            time_ns=self.now,
            address=address,
        )
        self.live[sample] = block
        if domain != "ARENA" and self.live_bytes > self._most:
            self._most = self.live_bytes
            self.at_high_water = list(self.live.values())
        return sample

    def free(self, sample: int) -> None:
        """Let a sample be freed: it goes to the ring."""
        self.now += self.step_ns
        rec = self.recording
        row = rec.tables[Region.LIVE][sample].copy()
        span_id = rec.span_id(int(row["span"])) if row["span"] else 0
        rec.free(sample)
        block = self.live.pop(sample)
        rec.freed(
            size=block.size,
            weight=block.weight,
            site=int(row["site"]),
            span_id=span_id,
            phase=int(row["phase"]),
            thread=block.thread,
            tid=block.tid,
            time_ns=int(row["time_ns"]),
            freed_ns=self.now,
            address=int(row["address"]),
        )
        rec.header["samples"] -= 1  # `live` and `free` have counted it
        rec.header["freed"] -= 1
        self.freed.append(block)

    def tick(self, rss: int = 100_000_000) -> None:
        """Let the timeline be written."""
        self.now += self.step_ns
        self.recording.tick(time_ns=self.now, rss_bytes=rss, live_bytes=self.live_bytes)
        self.ticks.append((START_MS + self.now // MS, rss, self.live_bytes))

    def snapshot(self, folder: Path) -> Snapshot:
        """Write the recording and read it."""
        self.now += self.step_ns
        header = self.recording.header
        header["updated_ns"] = header["stopped_ns"] = self.now
        header["rss_bytes"] = 77_000_000
        return read(self.recording.write(folder / "fastalloc-4242-1700000000000.recording"))

    @property
    def live_bytes(self) -> int:
        """The live heap, without arenas."""
        return sum(block.weight for block in self.live.values() if block.domain != "ARENA")

    @property
    def memory_points(self) -> list[tuple[int, int, int]]:
        """The points of the memory plot: (ms, rss, heap), after `snapshot`."""
        return [*self.ticks, (START_MS + self.now // MS, 77_000_000, self.live_bytes)]


def bytes_by_line(blocks: Iterable[Block]) -> dict[Line, int]:
    """Weighted bytes per line that allocated."""
    return _without_zeros(_sum((block.leaf, block.weight) for block in blocks))


def bytes_by_stack(blocks: Iterable[Block]) -> dict[Stack, int]:
    """Weighted bytes per stack."""
    return _without_zeros(_sum((block.stack or (NO_STACK,), block.weight) for block in blocks))


def bytes_by_thread(blocks: Iterable[Block]) -> dict[str, int]:
    """Weighted bytes per thread's name."""
    return _without_zeros(_sum((block.thread, block.weight) for block in blocks))


def counts_by_line(blocks: Iterable[Block]) -> dict[Line, float]:
    """Allocations stood for, per line that allocated."""
    return _sum((block.leaf, block.allocations) for block in blocks)


def read_by_line(records: Iterable[Any]) -> dict[Line, int]:
    """memray's records: bytes per line that allocated."""
    return _sum((record.stack_trace()[0], record.size) for record in records)


def read_counts_by_line(records: Iterable[Any]) -> dict[Line, int]:
    """memray's records: allocations per line that allocated."""
    return _sum((record.stack_trace()[0], record.n_allocations) for record in records)


def read_by_stack(records: Iterable[Any]) -> dict[Stack, int]:
    """memray's records: bytes per stack."""
    return _sum((tuple(record.stack_trace()), record.size) for record in records)


def read_by_thread(records: Iterable[Any]) -> dict[str, int]:
    """memray's records: bytes per thread's name."""
    return _sum((record.thread_name, record.size) for record in records)


def read_memory(reader: memray.FileReader) -> list[tuple[int, int, int]]:
    """memray's memory plot: (ms, rss, heap)."""
    return [(point.time, point.rss, point.heap) for point in reader.get_memory_snapshots()]


def _sum(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    sums: Counter[Any] = Counter()
    for key, amount in pairs:
        sums[key] += amount
    return dict(sums)


def _without_zeros(sums: Mapping[Any, int]) -> dict[Any, int]:
    return {key: amount for key, amount in sums.items() if amount}


def shop() -> Story:
    """A story with all that exports must get right; small enough to follow."""
    story = Story()
    story.allocate((MAIN,), size=64, weight=640)
    story.tick()
    cache = story.allocate((LOAD, MAIN), size=100, weight=5_000, span="GET /orders/", phase="db")
    story.allocate((LOAD, MAIN), size=100, weight=4_000, tid=77, thread="worker")
    story.allocate((LOAD, MAIN), size=700, weight=7_000, domain="RAW")
    body = story.allocate((PARSE, LOAD, MAIN), size=3_000, weight=90_000, tid=77, thread="worker")
    story.allocate((), size=50, weight=350)
    story.tick(rss=120_000_000)
    story.free(body)
    story.tick(rss=118_000_000)
    story.free(cache)
    story.allocate((RENDER, LOAD, MAIN), size=10, weight=1_010, span="GET /", phase="render")
    return story
