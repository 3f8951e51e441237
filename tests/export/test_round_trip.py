"""Random processes: whatever happens, memray reads from an export what happened."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import memray
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastalloc.export import export_memray
from tests.export.story import (
    LOAD,
    MAIN,
    PARSE,
    RENDER,
    Story,
    bytes_by_stack,
    bytes_by_thread,
    read_by_stack,
    read_by_thread,
    read_memory,
)

STACKS = [(), (MAIN,), (LOAD, MAIN), (PARSE, LOAD, MAIN), (RENDER, LOAD, MAIN), (LOAD, LOAD)]
allocation = st.fixed_dictionaries(
    {
        "stack": st.sampled_from(STACKS),
        "size": st.integers(1, 1 << 20),
        "times": st.floats(1, 1000),
        "tid": st.integers(1, 4),
        "domain": st.sampled_from(["RAW", "MEM", "OBJ"]),
        "span": st.sampled_from(["", "GET /orders/", "GET /"]),
        "address": st.sampled_from([None, 0x1000, 0x1008, 0x2001]),
    }
)
event = st.one_of(allocation, st.integers(0, 30), st.none())


def tell(events: list[Any], ring: int, step_ns: int) -> Story:
    """A story of allocations, frees (a number: which of the live) and ticks (None)."""
    story = Story(ring=ring, step_ns=step_ns)
    addresses: dict[int, int] = {}
    for number, item in enumerate(events):
        if item is None:
            story.tick(rss=1_000_000 + number)
        elif isinstance(item, int):
            if story.live:
                sample = sorted(story.live)[item % len(story.live)]
                story.free(sample)
                addresses.pop(sample, None)
        else:
            fields = dict(item)
            fields["weight"] = int(fields["size"] * fields.pop("times"))
            if fields["address"] in addresses.values():
                fields["address"] = None
            address = fields["address"]
            sample = story.allocate(thread=f"t{fields['tid']}", **fields)
            if address is not None:
                addresses[sample] = address
    return story


stories = st.builds(
    tell, st.lists(event, max_size=40), st.sampled_from([1, 4, 1000]), st.sampled_from([1, 10**7])
)
thorough = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def total(blocks: Any) -> int:
    return sum(block.weight for block in blocks)


@thorough
@given(stories)
def test_an_aggregated_file_says_what_happened(story: Story) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "aggregated.bin")
        export_memray(story.snapshot(Path(folder)), path)
        reader = memray.FileReader(path)
        live = list(reader.get_leaked_allocation_records(merge_threads=False))
        high_water = list(reader.get_high_watermark_allocation_records(merge_threads=False))
        merged = list(reader.get_high_watermark_allocation_records(merge_threads=True))

        assert read_by_stack(live) == bytes_by_stack(story.live.values())
        assert read_by_thread(live) == bytes_by_thread(story.live.values())
        assert read_by_stack(high_water) == bytes_by_stack(story.at_high_water)
        assert read_by_stack(merged) == bytes_by_stack(story.at_high_water)
        if len(story.freed) <= story.ring:
            assert read_by_thread(high_water) == bytes_by_thread(story.at_high_water)
        assert sum(r.n_allocations for r in live) == round(
            sum(block.count for block in story.live.values())
        )
        at_high_water = sum(block.count for block in story.at_high_water)
        for records in (high_water, merged):  # fixed-point counts: 1/65536 each
            assert abs(sum(r.n_allocations for r in records) - at_high_water) < 0.51
        assert reader.metadata.peak_memory == total(story.at_high_water)
        assert read_memory(reader) == story.memory_points


@thorough
@given(stories)
def test_a_file_of_all_allocations_says_what_happened(story: Story) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "all.bin")
        export_memray(story.snapshot(Path(folder)), path, kind="all")
        reader = memray.FileReader(path)
        live = list(reader.get_leaked_allocation_records(merge_threads=False))
        high_water = list(reader.get_high_watermark_allocation_records(merge_threads=False))

        assert read_by_stack(live) == bytes_by_stack(story.live.values())
        assert read_by_thread(live) == bytes_by_thread(story.live.values())
        if len(story.freed) <= story.ring:
            assert read_by_stack(high_water) == bytes_by_stack(story.at_high_water)
        assert reader.metadata.peak_memory == total(story.at_high_water)
        assert sum(record.size for record in high_water) == total(story.at_high_water)
        assert read_memory(reader) == story.memory_points
