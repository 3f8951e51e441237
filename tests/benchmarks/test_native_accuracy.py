"""The sums behind the table of native memory by line, and its target."""

from __future__ import annotations

import math
from typing import Any

import pytest
from benchmarks.comparison import native_median
from benchmarks.native_accuracy import LEAST_BYTES, lines_of, table
from benchmarks.native_accuracy_program import LIBRARIES, _line_of
from benchmarks.targets import table as targets
from benchmarks.workloads import WORKLOADS
from benchmarks.workloads_native import NATIVE

MIB = 1 << 20


def runs(*found: float, truth: float = 10 * MIB, error: float = MIB) -> list[dict[str, Any]]:
    """Runs of one line, `found` and `error` in MiB and bytes, beside a line too small to judge."""
    return [
        {
            "truth": {"a = make()": truth, "b = make()": LEAST_BYTES - 1},
            "found": {"a = make()": [each * MIB, error]},
        }
        for each in found
    ]


def test_bias_is_the_mean_of_the_runs_and_spread_is_told_apart() -> None:
    (line,) = lines_of(runs(9, 11, 10, 10))
    assert (line.label, line.truth_bytes, line.found_bytes) == ("a = make()", 10 * MIB, 10 * MIB)
    assert line.bias == pytest.approx(0)
    assert line.bias_error == pytest.approx(math.sqrt(0.02 / 3) / 2)
    assert line.off == pytest.approx(math.sqrt((1 + 1) / 4))


def document(found: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "interpreter": {"label": "3.11.7", "optimized": False},
        "interval_bytes": 65536,
        "runs": {"numpy": found},
    }


def test_a_bias_beyond_chance_is_marked_and_a_failure_told() -> None:
    assert [row[-1] for row in table([document(runs(9, 11, 10, 10))]).rows] == ["yes"]
    assert [row[-1] for row in table([document(runs(12, 12.1, 11.9, 12))]).rows] == ["**no**"]
    assert [row[-1] for row in table([document(runs(12))]).rows] == ["one run"]
    (row,) = table([document([{"failed": "memray: no"}])]).rows
    assert row[-1] == "failed: memray: no"


def test_a_line_that_was_never_sampled_is_off_by_all_it_holds() -> None:
    (line,) = lines_of([{"truth": {"a": 4 * MIB}, "found": {}}] * 2)
    assert (line.found_bytes, line.bias) == (0, -1)
    assert line.off == pytest.approx(4 * MIB / 65536)


def test_a_line_is_the_programs_own_not_the_librarys() -> None:
    function = LIBRARIES["numpy"]
    first = function.__code__.co_firstlineno
    path = "/x/benchmarks/native_accuracy_program.py"
    label = _line_of([("/numpy/core.py", 7), (path, first + 4), (path, first)], function)
    assert label.startswith("arrays = [np.ones(")
    assert _line_of([("/numpy/core.py", first + 4), (path, 10_000)], function) == ""


def compared(**medians: float) -> dict[str, Any]:
    """A document in which `native` took so many times what none took."""
    workloads = {
        name: {"launches": 1, "seconds": {"none": [[1.0, 1.0]], "native": [[each, each]]}}
        for name, each in medians.items()
    }
    interpreter = {"label": "3.11.7", "optimized": False}
    return {"interpreter": interpreter, "workloads": workloads, "failed": {}}


def test_natives_target_is_the_median_over_the_native_workloads() -> None:
    medians = dict(zip(NATIVE, (1.01, 1.5, 1.03, 1.0, 1.02), strict=True))
    assert set(NATIVE) <= set(WORKLOADS)
    found = native_median(compared(**medians, dicts=3.0))
    assert found is not None and found.mean == pytest.approx(1.02)
    assert native_median(compared(numpy=1.0)) is None


def test_natives_target_stands_in_the_table_of_targets() -> None:
    document = compared(**dict.fromkeys(NATIVE, 1.03))
    for each in document["workloads"].values():
        each["seconds"]["light"] = [[1.0, 1.0]]
    row = next(row for row in targets([document], []).rows if "native" in row[0])
    assert row[1:] == ["at most 1.02", "1.030", "**missed**"]
