"""The parts of resident memory: cut to what is resident, unknown where nobody told."""

from __future__ import annotations

from pathlib import Path

import pytest

import fastalloc
from fastalloc.recording.layout import UNKNOWN
from fastalloc.recording.resident import Resident
from tests.recording.synthetic import SECOND, SyntheticRecording

MIB = 1 << 20
LOOK = {
    "anon": 100,
    "file": 20,
    "shmem": 4,
    "arena": 30,
    "arena_live": 24,
    "malloc_live": 40,
    "malloc_free": 10,
    "own_anon": 1,
    "own_file": 2,
    "own_shmem": 0,
}


def parts_of(
    tmp_path: Path,
    *,
    ago: float = 0.0,
    options: dict[str, object] | None = None,
    samples: tuple[tuple[int, int, str], ...] = (),
    **mib: int | None,
) -> Resident:
    """The split of a look with these numbers, in MiB, None: unknown; samples: size, weight, domain."""
    recording = SyntheticRecording(pid=4242, duration_ns=60 * SECOND, rss_bytes=124 * MIB)
    look = recording.header["resident"]
    look["time_ns"] = int((60 - ago) * SECOND)
    look["malloc_free_count"] = 7
    for name, value in {**LOOK, **mib}.items():
        look[f"{name}_bytes"] = UNKNOWN if value is None else value * MIB
    for size, weight, domain in samples:
        recording.live(size=size, weight=weight, domain=domain)
    recording.options({"options": options or {}})
    path = tmp_path / "fastalloc-4242-1700000000000.recording"
    return fastalloc.read(recording.write(path)).resident


def sum_of_parts(parts: Resident) -> int:
    names = (
        "python",
        "arenas_free",
        "malloc_live",
        "malloc_free",
        "mapped",
        "file",
        "shmem",
        "own",
    )
    return parts.rest_bytes + sum(getattr(parts, f"{name}_bytes") or 0 for name in names)


def test_parts_add_up_and_python_blocks_in_malloc_are_not_counted_twice(tmp_path: Path) -> None:
    parts = parts_of(
        tmp_path, samples=((100, 9 * MIB, "OBJ"), (5000, 8 * MIB, "OBJ"), (9, 4 * MIB, "RAW"))
    )
    assert parts.rss_bytes == 124 * MIB == sum_of_parts(parts)
    assert parts.python_bytes == (24 + 8 + 4) * MIB  # small ones as pymalloc counts them
    assert parts.arenas_free_bytes == 6 * MIB
    assert parts.malloc_live_bytes == (40 - 8 - 4) * MIB
    assert parts.malloc_free_bytes == 10 * MIB and parts.malloc_free_count == 7
    assert (parts.file_bytes, parts.shmem_bytes, parts.own_bytes) == (18 * MIB, 4 * MIB, 3 * MIB)
    assert parts.rest_bytes == (100 - 1 - 36 - 6 - 28 - 10) * MIB
    assert parts.absent_bytes == 0 and parts.mapped_bytes is None
    # one standard error: sqrt of the sum of weight * (weight - size) over the two in malloc
    expected = ((8 * MIB * (8 * MIB - 5000)) + (4 * MIB * (4 * MIB - 9))) ** 0.5
    assert parts.python_error_bytes == pytest.approx(expected)


def test_what_allocators_count_beyond_rss_is_absent(tmp_path: Path) -> None:
    parts = parts_of(tmp_path, malloc_free=500)
    assert parts.malloc_free_bytes == (100 - 1 - 24 - 6 - 40) * MIB
    assert parts.absent_bytes == (500 - 29) * MIB
    assert parts.rest_bytes == 0 and sum_of_parts(parts) == parts.rss_bytes


def test_mappings_are_known_with_native_on(tmp_path: Path) -> None:
    mapping = ((MIB, MIB, "MMAP"),)
    assert parts_of(tmp_path, samples=mapping).mapped_bytes == MIB
    assert parts_of(tmp_path, options={"native": True}).mapped_bytes == 0


def test_without_pymalloc_all_of_python_is_mallocs(tmp_path: Path) -> None:
    parts = parts_of(tmp_path, arena=None, arena_live=None, samples=((100, 9 * MIB, "OBJ"),))
    assert parts.python_bytes == 9 * MIB and parts.arenas_free_bytes is None
    assert parts.malloc_live_bytes == 31 * MIB and parts.python_error_bytes > 0


def test_what_cannot_be_told_is_unknown_and_part_of_the_rest(tmp_path: Path) -> None:
    nothing = dict.fromkeys(LOOK)
    parts = parts_of(tmp_path, **nothing)
    assert parts.rss_bytes == 124 * MIB == parts.rest_bytes
    for name in ("arenas_free", "malloc_live", "malloc_free", "file", "shmem", "own"):
        assert getattr(parts, f"{name}_bytes") is None


def test_an_old_look_tells_of_another_heap(tmp_path: Path) -> None:
    samples = ((100, 9 * MIB, "OBJ"),)
    assert parts_of(tmp_path, ago=5, samples=samples).seconds_ago == pytest.approx(5)
    old = parts_of(tmp_path, ago=20, samples=samples)
    assert old.seconds_ago is None and old.malloc_free_bytes is None
    assert (old.python_bytes, old.rest_bytes) == (9 * MIB, 115 * MIB)


def test_a_recording_that_was_never_asked_has_the_live_heap_alone(tmp_path: Path) -> None:
    recording = SyntheticRecording(pid=4242)
    recording.live(size=100, weight=MIB)
    parts = fastalloc.read(recording.write(tmp_path / "one")).resident
    assert (parts.python_bytes, parts.rss_bytes, parts.rest_bytes) == (MIB, 0, 0)
    assert parts.seconds_ago is None
