"""Aggregated files, read by memray: the live heap and the high-water mark, exact per line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import memray
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memray import AllocatorType

from fastalloc.export import export_memray
from fastalloc.export.rows import whole_counts
from tests.export.story import (
    LOAD,
    MAIN,
    PARSE,
    RENDER,
    Story,
    bytes_by_line,
    bytes_by_stack,
    bytes_by_thread,
    counts_by_line,
    read_by_line,
    read_by_stack,
    read_by_thread,
    read_counts_by_line,
    read_memory,
    shop,
)

if TYPE_CHECKING:
    from pathlib import Path


def export(story: Story, folder: Path, *frames: str) -> memray.FileReader:
    """Export a story and open the file with memray."""
    path = folder / "aggregated.bin"
    export_memray(story.snapshot(folder), path, frames=frames)
    return memray.FileReader(path)


def test_the_high_water_mark_is_exact_per_line(tmp_path: Path) -> None:
    story = shop()
    reader = export(story, tmp_path)
    records = list(reader.get_high_watermark_allocation_records(merge_threads=True))
    assert read_by_line(records) == bytes_by_line(story.at_high_water)
    assert read_by_stack(records) == bytes_by_stack(story.at_high_water)
    assert read_counts_by_line(records) == counts_by_line(story.at_high_water)
    assert reader.metadata.peak_memory == sum(block.weight for block in story.at_high_water)


def test_the_live_heap_is_exact_per_line(tmp_path: Path) -> None:
    story = shop()
    records = list(export(story, tmp_path).get_leaked_allocation_records(merge_threads=True))
    assert read_by_line(records) == bytes_by_line(story.live.values())
    assert read_by_stack(records) == bytes_by_stack(story.live.values())
    assert read_counts_by_line(records) == counts_by_line(story.live.values())


def test_threads_hold_what_they_allocated(tmp_path: Path) -> None:
    story = shop()
    reader = export(story, tmp_path)
    live = reader.get_leaked_allocation_records(merge_threads=False)
    assert read_by_thread(live) == bytes_by_thread(story.live.values())
    high_water = reader.get_high_watermark_allocation_records(merge_threads=False)
    assert read_by_thread(high_water) == bytes_by_thread(story.at_high_water)


def test_what_the_ring_forgot_keeps_its_line_but_no_thread(tmp_path: Path) -> None:
    story = Story(ring=1)
    gone = story.allocate((PARSE, MAIN), weight=9_000, tid=7, thread="worker")
    last = story.allocate((LOAD, MAIN), weight=5_000, tid=8, thread="other")
    story.free(gone)
    story.free(last)
    reader = export(story, tmp_path)
    high_water = list(reader.get_high_watermark_allocation_records(merge_threads=False))
    assert read_by_line(high_water) == {PARSE: 9_000, LOAD: 5_000}
    assert read_counts_by_line(high_water) == {PARSE: 90, LOAD: 50}
    assert read_by_thread(high_water) == {"<not recorded>": 9_000, "other": 5_000}
    assert not list(reader.get_leaked_allocation_records(merge_threads=False))


def test_a_live_sample_younger_than_the_high_water_mark_is_no_part_of_it(tmp_path: Path) -> None:
    story = Story()
    big = story.allocate((LOAD,), weight=9_000)
    story.free(big)
    story.allocate((LOAD,), weight=1_000, tid=9, thread="late")
    reader = export(story, tmp_path)
    high_water = reader.get_high_watermark_allocation_records(merge_threads=False)
    assert read_by_thread(high_water) == {"MainThread": 9_000}
    live = reader.get_leaked_allocation_records(merge_threads=False)
    assert read_by_thread(live) == {"late": 1_000}


def test_counts_survive_threads_and_allocators_that_share_a_stack(tmp_path: Path) -> None:
    """memray's reader would count one row as 1 if two had the same leaf node."""
    story = Story()
    for tid in range(1, 21):
        for domain in ("OBJ", "RAW"):
            story.allocate(weight=100 * tid, tid=tid, thread=f"t{tid}", domain=domain)
    reader = export(story, tmp_path)
    for merge in (True, False):
        records = list(reader.get_leaked_allocation_records(merge_threads=merge))
        assert read_counts_by_line(records) == {LOAD: 2 * sum(range(1, 21))}
        assert read_by_line(records) == {LOAD: 2 * 100 * sum(range(1, 21))}


def test_mem_and_obj_are_pymalloc_and_raw_is_malloc(tmp_path: Path) -> None:
    story = Story()
    for domain, weight in (("RAW", 1), ("MEM", 20), ("OBJ", 300)):
        story.allocate(size=1, weight=weight, domain=domain)
    sizes = {
        record.allocator: record.size
        for record in export(story, tmp_path).get_leaked_allocation_records()
    }
    assert sizes == {AllocatorType.MALLOC: 1, AllocatorType.PYMALLOC_MALLOC: 320}


def test_instructions_of_one_line_are_one_row(tmp_path: Path) -> None:
    story = Story()
    for lasti in (2, 4, 6):
        story.allocate(weight=100, lasti=lasti)
    records = list(export(story, tmp_path).get_leaked_allocation_records())
    assert [(record.n_allocations, record.size) for record in records] == [(3, 300)]


def test_arenas_are_left_out_beside_samples_of_what_is_in_them(tmp_path: Path) -> None:
    story = Story()
    story.allocate(weight=500)
    story.allocate(size=1 << 20, domain="ARENA")
    records = export(story, tmp_path).get_leaked_allocation_records()
    assert read_by_line(records) == {LOAD: 500}


def test_arenas_are_mappings_in_standby_mode(tmp_path: Path) -> None:
    story = Story(mode="standby")
    story.allocate(size=1 << 20, domain="ARENA")
    reader = export(story, tmp_path)
    (record,) = reader.get_leaked_allocation_records()
    assert (record.allocator, record.size) == (AllocatorType.MMAP, 1 << 20)
    assert [heap for _, _, heap in read_memory(reader)] == [1 << 20]


def test_spans_phases_and_threads_can_be_frames(tmp_path: Path) -> None:
    story = shop()
    reader = export(story, tmp_path, "thread", "span", "phase")
    stacks = read_by_stack(reader.get_leaked_allocation_records())
    assert stacks[
        RENDER,
        LOAD,
        MAIN,
        ("render", "<phase>", 0),
        ("GET /", "<span>", 0),
        ("MainThread", "<thread>", 0),
    ] == sum(b.weight for b in story.live.values() if b.leaf == RENDER)
    assert {stack[-2][0] for stack in stacks} == {"<no span>", "GET /"}


def test_a_freed_samples_span_is_still_known(tmp_path: Path) -> None:
    reader = export(shop(), tmp_path, "span")
    stacks = read_by_stack(reader.get_high_watermark_allocation_records())
    assert stacks[LOAD, MAIN, ("GET /orders/", "<span>", 0)] == 5_000


def test_the_memory_plot_is_the_timeline(tmp_path: Path) -> None:
    story = shop()
    assert read_memory(export(story, tmp_path)) == story.memory_points


def test_the_metadata_is_the_recordings(tmp_path: Path) -> None:
    metadata = export(shop(), tmp_path).metadata
    assert metadata.pid == 4242
    assert metadata.main_thread_id == 4242
    assert metadata.python_allocator == "pymalloc"
    assert metadata.trace_python_allocators
    assert not metadata.has_native_traces
    assert metadata.start_time.timestamp() == 1_700_000_000
    assert metadata.command_line == "fastalloc: fastalloc-4242-1700000000000.recording"


def test_names_of_any_kind_are_read_back(tmp_path: Path) -> None:
    names = ["", "é√🚀", "<lambda>", "a" * 3000, "[stack", "f.<locals>.g", "\x01\n"]
    story = Story()
    for number, name in enumerate(names, 1):
        story.allocate(((name, name, number),), weight=100 * number)
    records = export(story, tmp_path).get_leaked_allocation_records()
    assert read_by_line(records) == bytes_by_line(story.live.values())


@pytest.mark.parametrize("line", [0, 1, 127, 128, 65_536, (1 << 31) - 1])
def test_lines_of_any_number_are_read_back(tmp_path: Path, line: int) -> None:
    story = Story()
    story.allocate((("f", "x.py", line), ("g", "x.py", line)))
    (record,) = export(story, tmp_path).get_leaked_allocation_records()
    assert record.stack_trace() == [("f", "x.py", line), ("g", "x.py", line)]


def test_a_line_that_is_none_reads_as_0(tmp_path: Path) -> None:
    story = Story()
    story.allocate((("f", "x.py", -1),))
    (record,) = export(story, tmp_path).get_leaked_allocation_records()
    assert record.stack_trace() == [("f", "x.py", 0)]


def test_a_stack_of_a_thousand_frames_is_read_back(tmp_path: Path) -> None:
    stack = tuple((f"f{depth}", "deep.py", depth) for depth in range(1000))
    story = Story()
    story.allocate(stack)
    (record,) = export(story, tmp_path).get_leaked_allocation_records()
    assert tuple(record.stack_trace()) == stack


def test_a_renamed_thread_is_two_threads(tmp_path: Path) -> None:
    story = Story()
    story.allocate(weight=100, tid=5, thread="before")
    story.allocate(weight=200, tid=5, thread="after")
    records = export(story, tmp_path).get_leaked_allocation_records(merge_threads=False)
    assert read_by_thread(records) == {"before": 100, "after": 200}


def test_an_empty_recording_is_an_empty_file(tmp_path: Path) -> None:
    reader = export(Story(), tmp_path)
    assert reader.metadata.peak_memory == 0
    assert not list(reader.get_high_watermark_allocation_records())


@given(st.lists(st.tuples(st.floats(0, 1e9), st.integers(0, 10))))
def test_rounded_counts_keep_their_sum(rows: list[tuple[float, int]]) -> None:
    counts = [count if amount else 0.0 for count, amount in rows]
    amounts = [amount for _, amount in rows]
    whole = whole_counts(counts, amounts)
    raised = sum(1 for count, amount in zip(counts, amounts, strict=True) if amount and count < 1)
    assert abs(sum(whole) - sum(counts)) <= 0.5 + raised + 1e-6 * sum(counts)
    for count, amount, rounded in zip(counts, amounts, whole, strict=True):
        assert rounded == 0 if not amount else rounded >= 1
        assert abs(rounded - count) <= 1
