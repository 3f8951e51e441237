"""Files of all allocations, read by memray: every sample at its time, and the heap over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import memray
import pytest
from memray import AllocatorType

from fastalloc.export import export_memray
from tests.export.story import (
    LOAD,
    MAIN,
    PARSE,
    Story,
    bytes_by_line,
    bytes_by_stack,
    bytes_by_thread,
    read_by_line,
    read_by_stack,
    read_by_thread,
    read_memory,
    shop,
)

if TYPE_CHECKING:
    from pathlib import Path

FORGOTTEN = ("<freed since, no longer in the recording>", "", 0)
FREES = (AllocatorType.FREE, AllocatorType.PYMALLOC_FREE, AllocatorType.MUNMAP)


def export(story: Story, folder: Path, *frames: str) -> memray.FileReader:
    """Export a story and open the file with memray."""
    path = folder / "all.bin"
    export_memray(story.snapshot(folder), path, kind="all", frames=frames)
    return memray.FileReader(path)


def test_every_sample_is_an_allocation_of_its_weight(tmp_path: Path) -> None:
    story = shop()
    records = list(export(story, tmp_path).get_allocation_records())
    allocations = [record for record in records if record.allocator not in FREES]
    assert read_by_stack(allocations) == bytes_by_stack([*story.live.values(), *story.freed])
    assert len(allocations) == len(story.live) + len(story.freed)
    assert len(records) - len(allocations) == len(story.freed)


def test_leaks_are_the_live_heap(tmp_path: Path) -> None:
    story = shop()
    records = list(export(story, tmp_path).get_leaked_allocation_records(merge_threads=False))
    assert read_by_line(records) == bytes_by_line(story.live.values())
    assert read_by_thread(records) == bytes_by_thread(story.live.values())


def test_the_peak_is_the_high_water_mark(tmp_path: Path) -> None:
    story = shop()
    reader = export(story, tmp_path)
    records = list(reader.get_high_watermark_allocation_records(merge_threads=False))
    assert read_by_stack(records) == bytes_by_stack(story.at_high_water)
    assert read_by_thread(records) == bytes_by_thread(story.at_high_water)
    assert reader.metadata.peak_memory == sum(block.weight for block in story.at_high_water)


def test_the_memory_plot_is_the_timeline(tmp_path: Path) -> None:
    story = shop()
    assert read_memory(export(story, tmp_path)) == story.memory_points


def test_what_the_ring_forgot_is_a_frame_of_its_own(tmp_path: Path) -> None:
    story = Story(ring=1)
    story.allocate(weight=1_000)
    story.tick()
    blocks = [story.allocate((PARSE, MAIN), weight=weight) for weight in (7_000, 8_000, 9_000)]
    story.tick()
    for block in blocks:
        story.free(block)
        story.tick()
    reader = export(story, tmp_path)
    assert read_memory(reader) == story.memory_points
    high_water = reader.get_high_watermark_allocation_records()
    assert read_by_line(high_water) == {LOAD: 1_000, PARSE: 9_000, FORGOTTEN: 15_000}
    assert reader.metadata.peak_memory == 25_000
    assert read_by_line(reader.get_leaked_allocation_records()) == {LOAD: 1_000}


def test_the_heap_between_two_ticks_is_never_above_the_high_water_mark(tmp_path: Path) -> None:
    """What is forgotten makes way for samples that took its place."""
    story = Story(ring=1)
    for _ in range(5):
        block = story.allocate((PARSE,), weight=10_000)
        story.tick()
        story.free(block)
    story.allocate((LOAD,), weight=10_000)
    story.tick()
    reader = export(story, tmp_path)
    assert reader.metadata.peak_memory == 10_000
    assert read_memory(reader) == story.memory_points


def test_temporal_reports_find_each_ticks_heap(tmp_path: Path) -> None:
    story = shop()
    records = list(export(story, tmp_path).get_temporal_allocation_records(merge_threads=True))
    for number, (_, _, heap) in enumerate(story.memory_points):
        alive = sum(
            interval.n_bytes
            for record in records
            for interval in record.intervals
            if interval.allocated_before_snapshot <= number
            and (
                interval.deallocated_before_snapshot is None
                or interval.deallocated_before_snapshot > number
            )
        )
        assert alive == heap


def test_temporal_high_water_marks_are_at_least_each_ticks_heap(tmp_path: Path) -> None:
    story = shop()
    reader = export(story, tmp_path)
    _, marks = reader.get_temporal_high_water_mark_allocation_records(merge_threads=True)
    assert max(marks) == sum(block.weight for block in story.at_high_water)
    for mark, (_, _, heap) in zip(marks, story.memory_points, strict=False):
        assert mark >= heap


def test_an_address_can_be_used_again(tmp_path: Path) -> None:
    story = Story()
    for weight in (1_000, 2_000, 3_000):
        block = story.allocate(weight=weight, address=0x7F00_0000_1238)
        story.free(block)
    story.allocate((PARSE,), weight=500, address=0x7F00_0000_1238)
    reader = export(story, tmp_path)
    assert reader.metadata.peak_memory == 3_000
    assert read_by_line(reader.get_leaked_allocation_records()) == {PARSE: 500}


def test_addresses_that_the_format_cannot_tell_apart_stay_apart(tmp_path: Path) -> None:
    story = Story()
    first = story.allocate(weight=1_000, address=0x7F00_0000_1231)
    story.allocate((PARSE,), weight=500, address=0x7F00_0000_1232)
    story.free(first)
    reader = export(story, tmp_path)
    assert reader.metadata.peak_memory == 1_500
    assert read_by_line(reader.get_leaked_allocation_records()) == {PARSE: 500}


def test_a_block_freed_in_the_instant_of_its_allocation_is_freed(tmp_path: Path) -> None:
    story = Story(step_ns=0)
    story.free(story.allocate(weight=1_000))
    assert not list(export(story, tmp_path).get_leaked_allocation_records())


@pytest.mark.parametrize("depth", [1, 15, 16, 17, 33, 200])
def test_stacks_of_any_depth_are_left_and_entered(tmp_path: Path, depth: int) -> None:
    deep = tuple((f"f{level}", "deep.py", level) for level in range(1, depth + 1))
    story = Story()
    story.allocate(deep)
    story.allocate((MAIN,))
    story.allocate((PARSE, *deep[depth // 2 :]))
    story.allocate(deep)
    records = export(story, tmp_path).get_leaked_allocation_records()
    assert read_by_stack(records) == bytes_by_stack(story.live.values())


def test_arenas_are_mapped_and_unmapped_in_standby_mode(tmp_path: Path) -> None:
    story = Story(mode="standby")
    arena = story.allocate(size=1 << 20, domain="ARENA", address=0x7F00_0010_0000)
    story.allocate(size=1 << 20, domain="ARENA", address=0x7F00_0020_0000)
    story.free(arena)
    records = list(export(story, tmp_path).get_allocation_records())
    assert [record.allocator for record in records].count(AllocatorType.MMAP) == 2
    assert [record.allocator for record in records].count(AllocatorType.MUNMAP) == 1
    leaked = export(story, tmp_path).get_leaked_allocation_records()
    assert read_by_line(leaked) == {LOAD: 1 << 20}


def test_spans_can_be_frames(tmp_path: Path) -> None:
    records = export(shop(), tmp_path, "span").get_allocation_records()
    spans = {r.stack_trace()[-1][0] for r in records if r.allocator not in FREES}
    assert spans == {"<no span>", "GET /orders/", "GET /"}


def test_an_empty_recording_is_an_empty_file(tmp_path: Path) -> None:
    reader = export(Story(), tmp_path)
    assert not list(reader.get_allocation_records())
    assert len(read_memory(reader)) == 1
