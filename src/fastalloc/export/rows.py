"""From a snapshot to the rows of an aggregated file.

Live use. A live sample counts for its own thread and stack with its weight.

High-water mark. Each site knows what it held when the process's live heap was largest, not
which threads held it. Samples tell: those that are live and were allocated before that
instant, and those in the ring of the freed that lived through it. What they do not explain
has left the ring since; it goes to one row of a thread named "<not recorded>". So the rows of
a site always sum to the site, and all rows to the snapshot.

Bytes are exact. Counts are estimates with fractions: they are rounded so that the sum of all
rows is the rounded sum, and never to 0 where there are bytes (memray would drop the row).
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from fastalloc.export.aggregated import Row

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fastalloc.export.blocks import Block, Translator
    from fastalloc.export.records import Allocator
    from fastalloc.recording.reader import Snapshot


class _Key(NamedTuple):
    thread: int
    allocator: Allocator
    node: int


class _Sums:
    """Bytes and counts, by thread, allocator and stack."""

    def __init__(self) -> None:
        self.bytes: dict[_Key, int] = defaultdict(int)
        self.count: dict[_Key, float] = defaultdict(float)

    def add(self, key: _Key, amount: int, count: float) -> None:
        self.bytes[key] += amount
        self.count[key] += count


def rows_of(snapshot: Snapshot, translator: Translator, blocks: Iterable[Block]) -> list[Row]:
    """Return the rows: what is live, and what was at the high-water mark."""
    live, high_water = _Sums(), _Sums()
    at_high_water: dict[int, list[Block]] = defaultdict(list)
    instant = snapshot.header["high_water_ns"]
    at_peak = snapshot.header["at_peak"] != 0
    for block in blocks:
        if block.freed_ns is None:
            live.add(_key(block), block.weight, block.allocations)
            if at_peak or block.time_ns <= instant:
                at_high_water[block.site].append(block)
        elif not at_peak and block.time_ns <= instant < block.freed_ns:
            at_high_water[block.site].append(block)
    sites = snapshot.sites
    for site, (amount, count) in enumerate(
        zip(sites["high_water_bytes"].tolist(), sites["high_water_count"].tolist(), strict=True)
    ):
        if amount and translator.exports(site):
            _explain(high_water, translator, site, amount, count, at_high_water[site])
    return _rounded(live, high_water)


def _key(block: Block) -> _Key:
    return _Key(block.thread, block.allocator, block.node)


def _explain(
    sums: _Sums, translator: Translator, site: int, amount: int, count: float, blocks: list[Block]
) -> None:
    """Divide what a site held among the blocks that held it, the oldest first."""
    for block in sorted(blocks, key=lambda block: block.time_ns):
        explained = min(block.weight, amount)
        if not explained:
            continue
        share = block.allocations * explained / block.weight
        sums.add(_key(block), explained, share)
        amount -= explained
        count -= share
    if amount:
        key = _Key(
            translator.unknown_thread(),
            translator.site_allocator(site),
            translator.unknown_node(site),
        )
        sums.add(key, amount, max(0.0, count))


def _rounded(live: _Sums, high_water: _Sums) -> list[Row]:
    keys = list(dict.fromkeys((*live.bytes, *high_water.bytes)))
    live_bytes = [live.bytes.get(key, 0) for key in keys]
    high_water_bytes = [high_water.bytes.get(key, 0) for key in keys]
    live_counts = whole_counts([live.count.get(key, 0.0) for key in keys], live_bytes)
    high_water_counts = whole_counts(
        [high_water.count.get(key, 0.0) for key in keys], high_water_bytes
    )
    return [
        Row(*key, *amounts)
        for key, *amounts in zip(
            keys, high_water_counts, live_counts, high_water_bytes, live_bytes, strict=True
        )
    ]


def whole_counts(counts: Sequence[float], amounts: Sequence[int]) -> list[int]:
    """Round counts: their sum is kept, except that 1 is the least where there are bytes."""
    whole = [
        max(int(count), 1 if amount else 0) for count, amount in zip(counts, amounts, strict=True)
    ]
    missing = round(sum(counts)) - sum(whole)
    by_remainder = sorted(range(len(counts)), key=lambda i: counts[i] - whole[i], reverse=True)
    for i in by_remainder[: max(0, missing)]:
        if amounts[i]:
            whole[i] += 1
    return whole
