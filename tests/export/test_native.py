"""Native samples in memray's files: the family of their allocator, in both kinds, and in a flame graph."""

from __future__ import annotations

import stat
from collections import Counter
from typing import TYPE_CHECKING

import memray
import pytest
from memray import AllocatorType

from fastalloc.export import export_memray, flamegraph
from tests.export.story import LOAD, MAIN, PARSE, RENDER, Story, bytes_by_line
from tests.export.test_reports import flamegraph_by_line

if TYPE_CHECKING:
    from pathlib import Path

KINDS = ("aggregated", "all")


def native_story() -> Story:
    """Blocks of libraries beside Python's; of malloc's and mmap's one each is freed again.

    A sample's weight is more than its size: as a range it reaches over its neighbours (one page apart here). The
    families have lines of their own, since memray shows one family per stack of a heap.
    """
    story = Story()
    story.allocate((RENDER, MAIN), size=50, weight=700, domain="OBJ")
    story.allocate((LOAD, MAIN), size=3_000, weight=9_000, domain="MALLOC")
    story.allocate((PARSE, LOAD, MAIN), size=1 << 20, domain="MMAP")
    gone = [
        story.allocate((PARSE, MAIN), size=5_000, weight=50_000, domain="MALLOC"),
        story.allocate((MAIN,), size=8 << 20, domain="MMAP"),
    ]
    for sample in gone:
        story.free(sample)
    return story


def exported(story: Story, folder: Path, kind: str) -> memray.FileReader:
    path = folder / "native.bin"
    export_memray(story.snapshot(folder), path, kind=kind)
    return memray.FileReader(path)


@pytest.mark.parametrize("kind", KINDS)
def test_native_samples_are_of_malloc_and_mmap(tmp_path: Path, kind: str) -> None:
    records = exported(native_story(), tmp_path, kind).get_leaked_allocation_records()
    sizes: Counter[tuple[AllocatorType, object]] = Counter()
    for record in records:
        sizes[AllocatorType(record.allocator), record.stack_trace()[0]] += record.size
    assert sizes == {
        (AllocatorType.PYMALLOC_MALLOC, RENDER): 700,
        (AllocatorType.MALLOC, LOAD): 9_000,
        (AllocatorType.MMAP, PARSE): 1 << 20,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_the_high_water_mark_has_what_libraries_gave_back(tmp_path: Path, kind: str) -> None:
    records = exported(native_story(), tmp_path, kind).get_high_watermark_allocation_records()
    sizes: Counter[AllocatorType] = Counter()
    for record in records:
        sizes[AllocatorType(record.allocator)] += record.size
    assert sizes == {
        AllocatorType.PYMALLOC_MALLOC: 700,
        AllocatorType.MALLOC: 9_000 + 50_000,
        AllocatorType.MMAP: (1 << 20) + (8 << 20),
    }


def test_each_family_is_freed_by_its_own(tmp_path: Path) -> None:
    reader = exported(native_story(), tmp_path, "all")
    calls = Counter(AllocatorType(record.allocator) for record in reader.get_allocation_records())
    assert calls == {
        AllocatorType.PYMALLOC_MALLOC: 1,
        AllocatorType.MALLOC: 2,
        AllocatorType.FREE: 1,
        AllocatorType.MMAP: 2,
        AllocatorType.MUNMAP: 1,
    }


@pytest.mark.parametrize("leaks", [False, True])
def test_a_flamegraph_shows_native_memory_under_its_python_lines(
    tmp_path: Path, leaks: bool
) -> None:
    story, page = native_story(), tmp_path / "page.html"
    flamegraph(story.snapshot(tmp_path), page, leaks=leaks)
    blocks = story.live.values() if leaks else story.at_high_water
    assert flamegraph_by_line(page)[0] == bytes_by_line(blocks)
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
