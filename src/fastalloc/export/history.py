"""From a snapshot to the allocations and frees of an ALL_ALLOCATIONS file, in order of time.

Each sample becomes one allocation, at its time, of its weight: bytes add up to what the
samples stand for. The format has no field for "stands for n allocations": counts are samples.

The ring of the freed forgets its oldest entries, so of earlier times less is known than there
was. Where the recording knows how large the live heap was (ticks of the timeline, the
high-water mark), what the known samples lack is written as blocks of one pseudo frame,
`FORGOTTEN`. The heap curve is then the recording's own, and so is the peak that memray finds.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from fastalloc.export.records import Allocator
from fastalloc.export.stacks import FrameKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastalloc.export.all_allocations import AllAllocations
    from fastalloc.export.blocks import Block, Translator
    from fastalloc.recording.reader import Snapshot

FORGOTTEN = FrameKey("<freed since, no longer in the recording>", "", 0)
FIRST_MADE_UP_ADDRESS = 1 << 62  # in no process's half of the address space

# Of what happens in the same instant, frees come first, so that an address is free when it is
# allocated again; anchors see the result.
_FREE, _ALLOCATE, _FREE_AT_ONCE, _ANCHOR = range(4)


class Anchor(NamedTuple):
    """An instant at which the size of the live heap is known."""

    time_ns: int
    live_bytes: int
    rss_bytes: int | None  # None: not a point of the memory plot


class _Written(NamedTuple):
    """A block as it was written: a free must say the same."""

    thread: int
    allocator: Allocator
    address: int
    size: int


class Forgotten:
    """The blocks that stand for what the recording has forgotten: a stack of sizes."""

    def __init__(
        self, file: AllAllocations, thread: tuple[int, str], path: tuple[int, ...]
    ) -> None:
        self.bytes = 0
        self._file = file
        self._thread = thread
        self._path = path
        self._blocks: list[tuple[int, int]] = []
        self._next_address = FIRST_MADE_UP_ADDRESS + (1 << 40)

    def become(self, amount: int) -> None:
        """Free or allocate until the blocks hold this many bytes."""
        while self.bytes > amount:
            address, size = self._blocks.pop()
            self._file.thread(*self._thread)
            self._file.free(Allocator.MALLOC, address, size)
            self.bytes -= size
        if self.bytes < amount:
            size = amount - self.bytes
            self._file.thread(*self._thread)
            self._file.stack(self._path)
            self._file.allocate(Allocator.MALLOC, self._next_address, size)
            self._blocks.append((self._next_address, size))
            self._next_address += 8
            self.bytes = amount


def anchors_of(snapshot: Snapshot) -> list[Anchor]:
    """Return what is known of the heap's size, in order of time; the last is the snapshot."""
    timeline = snapshot.timeline
    anchors = [
        Anchor(*tick)
        for tick in zip(
            *(timeline[name].tolist() for name in ("time_ns", "live_bytes", "rss_bytes")),
            strict=True,
        )
    ]
    header = snapshot.header
    if not header["at_peak"] and header["high_water_bytes"]:
        anchors.append(Anchor(header["high_water_ns"], header["high_water_bytes"], None))
    end_ns = int(snapshot.duration_seconds * 1e9)
    now = max([end_ns, header["updated_ns"], *(anchor.time_ns for anchor in anchors)])
    anchors.sort(key=lambda anchor: anchor.time_ns)
    anchors.append(Anchor(now, snapshot.live_bytes, snapshot.rss_bytes))
    return anchors


def has_forgotten(snapshot: Snapshot) -> bool:
    """Tell whether samples were freed that the ring does not hold any more."""
    return snapshot.header["freed"] > len(snapshot.freed)


def write_history(
    snapshot: Snapshot,
    translator: Translator,
    file: AllAllocations,
    blocks: list[Block],
    progress: Callable[[int, int], None],
) -> None:
    """Write every block, its free if it has one, and the memory plot."""
    anchors = anchors_of(snapshot)
    gaps = _gaps(anchors, blocks) if has_forgotten(snapshot) else [0] * len(anchors)
    between = [min(pair) for pair in zip(gaps, [*gaps[1:], 0], strict=True)]
    names = translator.threads.names
    unknown = translator.unknown_thread()
    tree = translator.tree
    forgotten = Forgotten(file, (unknown, names[unknown]), (tree.frame_number(FORGOTTEN),))
    most = max([anchor.live_bytes for anchor in anchors])
    heap = 0
    paths: dict[int, tuple[int, ...]] = {}
    written: dict[int, _Written] = {}
    taken: set[int] = set()
    made_up = FIRST_MADE_UP_ADDRESS

    events = _events(blocks, anchors)
    for done, (_, order, index) in enumerate(events):
        if done % 4096 == 0:
            progress(done, len(events))
        if order == _ANCHOR:
            anchor = anchors[index]
            forgotten.become(gaps[index])
            if anchor.rss_bytes is not None:
                file.memory(anchor.time_ns // 1_000_000, anchor.rss_bytes)
            forgotten.become(between[index])
        elif order == _ALLOCATE:
            block = blocks[index]
            heap += block.weight
            if forgotten.bytes and heap + forgotten.bytes > most:
                forgotten.become(max(0, most - heap))
            address = block.address & ~7
            if address in taken or not address:
                address = made_up = made_up + 8
            taken.add(address)
            if block.node not in paths:
                paths[block.node] = tree.path(block.node)
            file.thread(block.thread, names[block.thread])
            file.stack(paths[block.node])
            file.allocate(block.allocator, address, block.weight)
            written[index] = _Written(block.thread, block.allocator, address, block.weight)
        else:
            freed = written.pop(index)
            heap -= freed.size
            taken.discard(freed.address)
            file.thread(freed.thread, names[freed.thread])
            file.free(freed.allocator, freed.address, freed.size)
    progress(len(events), len(events))


def _events(blocks: list[Block], anchors: list[Anchor]) -> list[tuple[int, int, int]]:
    """Return (time, order within the instant, index of block or anchor), sorted."""
    events = []
    for index, block in enumerate(blocks):
        events.append((block.time_ns, _ALLOCATE, index))
        if block.freed_ns is not None:
            if block.freed_ns > block.time_ns:
                events.append((block.freed_ns, _FREE, index))
            else:
                events.append((block.time_ns, _FREE_AT_ONCE, index))
    events += [(anchor.time_ns, _ANCHOR, index) for index, anchor in enumerate(anchors)]
    events.sort()
    return events


def _gaps(anchors: list[Anchor], blocks: list[Block]) -> list[int]:
    """Return how much of the live heap at each anchor no known block explains."""
    changes = []
    for block in blocks:
        if block.allocator is Allocator.MMAP:
            continue  # arenas are no part of live_bytes
        changes.append((block.time_ns, block.weight))
        if block.freed_ns is not None:
            changes.append((max(block.freed_ns, block.time_ns), -block.weight))
    changes.sort()
    times = [time for time, _ in changes]
    known = [0, *accumulate(change for _, change in changes)]
    gaps = [
        max(0, anchor.live_bytes - known[bisect_right(times, anchor.time_ns)]) for anchor in anchors
    ]
    gaps[-1] = 0  # now all live samples are known
    return gaps
