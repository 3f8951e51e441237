"""What the benchmark of trackers measures, and what it tells."""

from __future__ import annotations

from benchmarks import trackers
from fastalloc.trackers import TRACKERS


def test_each_tracker_is_measured_alone() -> None:
    assert {*trackers.ALONE, "caches"} == set(TRACKERS)


def test_ratios_are_those_to_the_frameworks_as_they_are() -> None:
    seconds = dict.fromkeys(trackers.VARIANTS, 0.02) | {"none": 0.01, "all": 0.025}
    sweep = {"seconds": 0.0344, "steps": 18, "modules": 1093, "watched": 19}
    document = {"interpreter": {"label": "3.11"}, "works": {"a page": seconds}, "sweep": sweep}
    table = trackers.table([document])
    (row,) = table.rows
    told = dict(zip(table.columns, row, strict=True))
    assert told[""] == "a page" and told["3.11: none, ms"] == "10.00"
    assert told["3.11: admin"] == "2.000" and told["3.11: all"] == "2.500"
    assert "3.11: a sweep for caches takes 34.4 ms in 18 steps" in table.note
