"""What grew between two snapshots."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from fastalloc.analysis.growth import growth
from fastalloc.recording.reader import read_copy
from fastalloc.recording.snapshot import Snapshot
from tests.recording.synthetic import SyntheticRecording


def snapshot_of(recording: SyntheticRecording) -> Snapshot:
    return read_copy(recording.to_bytes(), Path("memory"))


def test_what_came_and_went_is_the_change() -> None:
    recording = SyntheticRecording()
    grows, shrinks, stays = (recording.site([("f", "f.py", line)]) for line in (1, 2, 3))
    recording.live(size=100, weight=1000, site=stays)
    leaving = recording.live(size=10, weight=50, site=shrinks)
    recording.live(size=10, weight=40, site=grows)
    before = snapshot_of(recording)
    recording.free(leaving)
    recording.live(size=20, weight=80, site=grows, time_ns=7)
    after = snapshot_of(recording)

    first, last = growth(before, after)
    assert (first.key, first.change_bytes, first.change_count) == ("f.py:1", 80, 4)
    assert (first.before_bytes, first.after_bytes) == (40, 120)
    assert first.site == grows
    assert (last.key, last.change_bytes, last.after_bytes) == ("f.py:2", -50, 0)


def test_a_sample_that_stays_adds_no_error() -> None:
    recording = SyntheticRecording()
    site = recording.site([("f", "f.py", 1)])
    recording.live(size=1, weight=1_000_000, site=site)
    before = snapshot_of(recording)
    recording.live(size=10, weight=100, site=site)
    (row,) = growth(before, snapshot_of(recording))
    assert row.error_bytes == pytest.approx(math.sqrt(100 * 90))


def test_of_two_processes_all_samples_count() -> None:
    first, second = SyntheticRecording(pid=1), SyntheticRecording(pid=2)
    for recording, weight in ((first, 1000), (second, 3000)):
        recording.live(size=100, weight=weight, site=recording.site([("f", "f.py", 1)]))
    (row,) = growth(snapshot_of(first), snapshot_of(second))
    assert row.change_bytes == 2000
    assert row.error_bytes == pytest.approx(math.sqrt(1000 * 900 + 3000 * 2900))


def test_two_equal_snapshots_have_no_growth() -> None:
    recording = SyntheticRecording()
    recording.live(size=1)
    assert growth(snapshot_of(recording), snapshot_of(recording)) == []


def test_growth_can_be_grouped_and_limited() -> None:
    recording = SyntheticRecording()
    before = snapshot_of(recording)
    for route, size in (("GET /a", 1), ("GET /b", 2), ("GET /c", 3)):
        recording.live(size=size, span=recording.span(route))
    rows = growth(before, snapshot_of(recording), group="span", limit=2)
    assert [(row.key, row.change_bytes) for row in rows] == [("GET /c", 3), ("GET /b", 2)]
