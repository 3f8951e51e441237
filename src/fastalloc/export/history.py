"""From a snapshot to the allocations and frees of an ALL_ALLOCATIONS file, in order of time.

Each sample becomes one allocation, at its time, of its weight: bytes add up to what the
samples stand for. The format has no field for "stands for n allocations": counts are samples.

The ring of the freed forgets its oldest entries, so of earlier times less is known than there
was. Where the recording knows how large the live heap was (ticks of the timeline, the
high-water mark), what the known samples lack is written as blocks of one pseudo frame,
`FORGOTTEN`. The heap curve is then the recording's own, and so is the peak that memray finds. (Except before
an instant at which the live table was full and the interval was widened: what samples weighed
before that is not known any more, and the curve there is an estimate.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fastalloc.export.memory_plot import anchors_of, held_at
from fastalloc.export.records import Allocator
from fastalloc.export.stacks import FrameKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastalloc.export.all_allocations import AllAllocations
    from fastalloc.export.blocks import Block, Translator
    from fastalloc.export.memory_plot import Anchor
    from fastalloc.recording.reader import Snapshot

FORGOTTEN = FrameKey("<freed since, no longer in the recording>", "", 0)
FIRST_MADE_UP_ADDRESS = 1 << 62  # in no process's half of the address space

# Of what happens in the same instant, frees come first, so that an address is free when it is
# allocated again; anchors see the result.
_FREE, _ALLOCATE, _FREE_AT_ONCE, _ANCHOR = range(4)


class _Written(NamedTuple):
    """A block as it was written: its free must say the same."""

    thread: int
    allocator: Allocator
    address: int
    size: int
    is_arena: bool = False


class Replay:
    """Writes allocations and frees, and keeps the blocks of what is forgotten."""

    def __init__(self, file: AllAllocations, translator: Translator, most: int) -> None:
        """`most`: bytes that the live heap never exceeded."""
        self.file = file
        self._most = most
        self._heap = 0  # of known blocks, without arenas
        self._tree = translator.tree
        self._names = translator.threads.names
        self._paths: dict[int, tuple[int, ...]] = {}
        self._written: dict[int, _Written] = {}
        self._addresses: set[int] = set()
        self._made_up = FIRST_MADE_UP_ADDRESS
        self._forgotten: list[_Written] = []
        self._forgotten_bytes = 0
        self._forgotten_thread = translator.unknown_thread()
        self._forgotten_path = (self._tree.frame_number(FORGOTTEN),)

    def allocate(self, number: int, block: Block) -> None:
        """Write a block's allocation. What is forgotten makes way if there is no room for both.

        number: to free it by.
        """
        if not block.is_arena:
            self._heap += block.weight
            if self._forgotten_bytes + self._heap > self._most:
                self.forget(max(0, self._most - self._heap))
        path = self._paths.get(block.node)
        if path is None:
            path = self._paths[block.node] = self._tree.path(block.node)
        written = _Written(
            block.thread, block.allocator, self._address(block), block.weight, block.is_arena
        )
        self._written[number] = self._write(path, written)

    def free(self, number: int) -> None:
        """Write the free of a block written before."""
        block = self._written.pop(number)
        self._addresses.discard(block.address)
        if not block.is_arena:
            self._heap -= block.size
        self._write_free(block)

    def forget(self, amount: int) -> None:
        """Let the blocks of what is forgotten hold this many bytes."""
        while self._forgotten_bytes > amount:
            last = self._forgotten.pop()
            self._forgotten_bytes -= last.size
            self._write_free(last)
        if self._forgotten_bytes < amount:
            size = amount - self._forgotten_bytes
            block = _Written(self._forgotten_thread, Allocator.MALLOC, self._new_address(), size)
            self._forgotten.append(self._write(self._forgotten_path, block))
            self._forgotten_bytes = amount

    def _write(self, path: tuple[int, ...], block: _Written) -> _Written:
        self.file.thread(block.thread, self._names[block.thread])
        self.file.stack(path)
        self.file.allocate(block.allocator, block.address, block.size)
        return block

    def _write_free(self, block: _Written) -> None:
        self.file.thread(block.thread, self._names[block.thread])
        self.file.free(block.allocator, block.address, block.size)

    def _address(self, block: Block) -> int:
        """The block's own address, as far as the format can say it and no other block is there.

        memray takes a mapping for all bytes from its address on, and what is unmapped out of others: one
        of a sample's weight would reach into its neighbours.
        """
        if block.allocator is Allocator.MMAP:
            return self._new_address(block.weight)
        address = block.address & ~7
        if not address or address in self._addresses:
            address = self._new_address()
        self._addresses.add(address)
        return address

    def _new_address(self, size: int = 8) -> int:
        """With room for so many bytes up to the next one; the format has multiples of 8 only."""
        address = self._made_up
        self._made_up += (size + 7) & ~7
        return address


def has_forgotten(snapshot: Snapshot) -> bool:
    """Tell whether samples were taken that are neither live nor in the ring of the freed."""
    header = snapshot.header
    return header["freed"] > len(snapshot.freed) or header["samples"] > len(snapshot.live) + len(
        snapshot.freed
    )


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
    replay = Replay(file, translator, max(anchor.live_bytes for anchor in anchors))
    events = _events(blocks, anchors)
    for done, (_, order, index) in enumerate(events):
        if done % 4096 == 0:
            progress(done, len(events))
        if order == _ALLOCATE:
            replay.allocate(index, blocks[index])
        elif order != _ANCHOR:
            replay.free(index)
        else:
            anchor = anchors[index]
            replay.forget(gaps[index])
            if anchor.rss_bytes is not None:
                file.memory(anchor.time_ns // 1_000_000, anchor.rss_bytes)
            # between two anchors no more is certain than the lesser of both
            replay.forget(min(gaps[index : index + 2]))
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
    known = held_at(anchors, (b for b in blocks if not b.is_arena))
    gaps = [max(0, anchor.live_bytes - held) for anchor, held in zip(anchors, known, strict=True)]
    gaps[-1] = 0  # now all live samples are known
    return gaps
