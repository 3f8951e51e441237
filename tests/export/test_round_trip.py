"""Random processes: whatever happens, memray reads from an export what happened."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import memray
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastalloc.export import export_memray
from fastalloc.recording.errors import RecordingError
from fastalloc.recording.layout import HEADER
from fastalloc.recording.reader import read
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
        "domain": st.sampled_from(["RAW", "MEM", "OBJ", "MALLOC", "MMAP"]),
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
damage = st.one_of(
    st.binary(min_size=1, max_size=1),
    st.sampled_from([b"\xff", b"\xff" * 4, b"\xff" * 7 + b"\x7f", b"\0" * 8]),
)
thorough = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def used_places(content: bytearray) -> list[int]:
    """Where damage can matter: the header, and the entries in use."""
    header = np.frombuffer(content[: HEADER.itemsize], HEADER)[0]
    places = list(range(HEADER.itemsize))
    for offset, used, capacity, stride in header["regions"].tolist():
        places += range(offset, offset + min(used, capacity) * stride)
    return places


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
            sum(block.allocations for block in story.live.values())
        )
        at_high_water = sum(block.allocations for block in story.at_high_water)
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
        # Where the end is as high as the mark was, memray takes the later of the two.
        if len(story.freed) <= story.ring and total(story.live.values()) < total(
            story.at_high_water
        ):
            assert read_by_stack(high_water) == bytes_by_stack(story.at_high_water)
        assert reader.metadata.peak_memory == total(story.at_high_water)
        assert sum(record.size for record in high_water) == total(story.at_high_water)
        assert read_memory(reader) == story.memory_points


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(stories, st.lists(st.tuples(st.integers(0, 1 << 16), damage), min_size=1, max_size=4))
def test_a_damaged_recording_is_refused_or_exported(
    story: Story, damages: list[tuple[int, bytes]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        story.snapshot(Path(folder))
        (recording,) = Path(folder).iterdir()
        content = bytearray(recording.read_bytes())
        places = used_places(content)
        for place, garbage in damages:
            start = places[place % len(places)]
            content[start : start + len(garbage)] = garbage
        recording.write_bytes(content)
        try:
            snapshot = read(recording)
        except RecordingError:
            return
        for kind in ("aggregated", "all"):
            path = Path(folder, kind)
            export_memray(snapshot, path, kind=kind, frames=("span", "phase"))
            for record in memray.FileReader(path).get_leaked_allocation_records():
                assert record.stack_trace()
