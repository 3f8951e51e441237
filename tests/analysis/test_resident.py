"""The verdict on resident memory: one split of each kind, and what counts as growth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastalloc
from fastalloc.analysis.resident import judge, keeps_growing, verdict
from fastalloc.recording.resident import Resident
from tests.recording.synthetic import SECOND, SyntheticRecording

MIB = 1 << 20


def split(**mib: float) -> Resident:
    """A split of these parts, in MiB; an interpreter's usual ones beside them."""
    usual = {
        "python": 6,
        "arenas_free": 1,
        "malloc_live": 3,
        "malloc_free": 1,
        "file": 8,
        "shmem": 0,
    }
    parts = {**usual, "rest": 2, "own": 0.5, **mib}
    sizes: dict[str, Any] = {f"{name}_bytes": int(each * MIB) for name, each in parts.items()}
    return Resident(
        **{"mapped_bytes": None, "malloc_free_count": 5000, **sizes},
        rss_bytes=sum(sizes.values()),
        python_error_bytes=0.0,
        malloc_live_error_bytes=0.0,
        absent_bytes=0,
        seconds_ago=0.0,
    )


def kind(resident: Resident, grows: bool | None = False, native: bool = False) -> str:
    return judge(resident, live_grows=grows, rss_grows=grows, native=native).kind


@pytest.mark.parametrize(
    ("mib", "expected"),
    [
        ({}, "nothing stands out"),
        ({"python": 200}, "in use"),
        ({"malloc_live": 200}, "native"),
        ({"mapped": 200}, "native"),
        ({"malloc_live": 110, "malloc_free": 100}, "fragmentation"),
        ({"malloc_free": 200}, "peak not given back"),
        ({"python": 120, "arenas_free": 110}, "fragmentation"),
        ({"arenas_free": 200}, "peak not given back"),
        ({"file": 200}, "file cache"),
        ({"shmem": 200}, "shared memory"),
        ({"rest": 200}, "unexplained"),
        ({"python": 60, "malloc_live": 60, "file": 60, "rest": 60}, "nothing stands out"),
    ],
)
def test_the_part_that_stands_out_gives_the_verdict(mib: dict[str, float], expected: str) -> None:
    assert kind(split(**mib)) == expected


def test_live_blocks_that_keep_growing_are_a_leak_and_the_advice_names_the_lines() -> None:
    found = judge(split(python=200), live_grows=True, rss_grows=True, native=False)
    assert (found.kind, found.bytes) == ("leak", 200 * MIB)
    assert 0.9 < found.share < 1.0
    assert "top --group line" in found.advice
    assert kind(split(python=200), grows=None) == "in use"


def test_native_memory_is_to_be_recorded_or_looked_up() -> None:
    for native, advice in ((False, "native=True"), (True, "top --group line")):
        found = judge(split(malloc_live=200), live_grows=None, rss_grows=True, native=native)
        assert advice in found.advice and "keeps growing" in found.text


def test_freed_memory_names_its_allocator() -> None:
    def found(**mib: float) -> tuple[str, str]:
        judged = judge(split(**mib), live_grows=False, rss_grows=False, native=False)
        return judged.text, judged.advice

    text, advice = found(malloc_live=110, malloc_free=100)
    assert "malloc between" in text and "5,000 pieces" in text and "MALLOC_ARENA_MAX" in advice
    assert "MALLOC_TRIM_THRESHOLD_" in found(malloc_free=200)[1]
    text, advice = found(arenas_free=200)
    assert "pymalloc" in text and "MALLOC" not in advice and "max_requests" in advice


def test_what_nobody_asked_is_unknown_not_unexplained() -> None:
    asked = split(rest=200)
    assert kind(asked._replace(seconds_ago=None)) == "unknown"
    assert kind(asked._replace(rss_bytes=0)) == "unknown"


def growth(values: list[float]) -> bool | None:
    return keeps_growing(np.arange(len(values), dtype=float), np.array(values))


def test_growth_is_told_from_start_up_peaks_and_noise() -> None:
    assert growth([10.0 + n for n in range(20)])
    assert not growth([10.0, 40, 80, 100, *[100.0] * 16])  # start-up
    assert not growth([100.0 + 30 * (n % 3) for n in range(20)])  # requests come and go
    assert not growth([100.0 + n * 0.1 for n in range(20)])  # by 2 %
    assert growth([100.0 + 30 * (n % 3) + 10 * n for n in range(20)])  # below the requests' noise
    assert not growth([float(n) for n in range(15)] + [3.0] * 5)  # given back
    assert growth([1.0, 2, 3]) is None
    assert growth([]) is None


def test_the_timeline_says_whether_the_live_heap_grows(tmp_path: Path) -> None:
    def recorded(name: str, values: list[int]) -> str:
        recording = SyntheticRecording(
            pid=4242, duration_ns=len(values) * SECOND, rss_bytes=110 * MIB, live_bytes=0
        )
        for second, value in enumerate(values):
            recording.tick(time_ns=second * SECOND, live_bytes=value, rss_bytes=110 * MIB)
        recording.live(size=values[-1])
        return verdict(fastalloc.read(recording.write(tmp_path / name))).kind

    assert recorded("leaks", [n * 10 * MIB for n in range(1, 11)]) == "leak"
    assert recorded("stands", [100 * MIB] * 10) == "in use"
