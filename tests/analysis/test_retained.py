"""What was allocated in some stretch of time, or by finished work, and is still alive."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastalloc.analysis.retained import retained_by_finished_spans, retained_since
from fastalloc.recording.reader import read_copy
from fastalloc.recording.snapshot import Snapshot
from tests.recording.synthetic import SECOND, SyntheticRecording


@pytest.fixture
def snapshot() -> Snapshot:
    """Two finished spans, one open one and none: 1, 2, 4 and 8 bytes at seconds 1 to 4."""
    recording = SyntheticRecording()
    spans = [
        recording.span("GET /a", end_ns=5 * SECOND),
        recording.span("GET /a", end_ns=5 * SECOND),
        recording.span("GET /b"),
        0,
    ]
    for number, span in enumerate(spans):
        recording.live(
            size=1 << number,
            span=span,
            site=recording.site([("f", "f.py", number)]),
            time_ns=(number + 1) * SECOND,
        )
    return read_copy(recording.to_bytes(), Path("memory"))


def test_blocks_allocated_before_are_not_retained(snapshot: Snapshot) -> None:
    rows = retained_since(snapshot, 3 * SECOND)
    assert [row.live_bytes for row in rows] == [8, 4]


def test_blocks_allocated_after_the_end_are_not_retained(snapshot: Snapshot) -> None:
    rows = retained_since(snapshot, 2 * SECOND, 4 * SECOND)
    assert [row.live_bytes for row in rows] == [4, 2]


def test_open_spans_and_none_are_no_finished_work(snapshot: Snapshot) -> None:
    rows = retained_by_finished_spans(snapshot)
    assert [(row.key, row.live_bytes) for row in rows] == [("GET /a", 3)]


def test_finished_work_can_be_told_by_line(snapshot: Snapshot) -> None:
    rows = retained_by_finished_spans(snapshot, group="line")
    assert [(row.key, row.live_bytes) for row in rows] == [("f.py:1", 2), ("f.py:0", 1)]


def test_no_mark_is_known_of_a_part(snapshot: Snapshot) -> None:
    nothing = np.zeros(len(snapshot.live), bool)
    assert snapshot.top(where=nothing) == []
    assert snapshot.top(where=~nothing, limit=1)[0].high_water_bytes == 0
