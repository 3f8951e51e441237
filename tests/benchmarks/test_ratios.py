"""The sums behind the tables."""

from __future__ import annotations

import pytest
from benchmarks.ratios import compare, geomean, geomean_of


def test_a_slow_machine_cancels_out_between_rounds_side_by_side() -> None:
    none = [[1.0, 2.0, 4.0], [1.0, 1.0, 3.0]]
    ours = [[1.1 * seconds for seconds in launch] for launch in none]
    ratio = compare(ours, none)
    assert (ratio.median, ratio.low, ratio.high) == pytest.approx((1.1,) * 3)


def test_rounds_left_out_are_left_out() -> None:
    ratio = compare([[2.0, None, 2.0, None]], [[1.0, 5.0, 1.0, 5.0]])
    assert (ratio.median, ratio.by_launch) == (2.0, (2.0,))


def test_geometric_mean_over_workloads_with_its_error() -> None:
    none = [[1.0, 1.0], [1.0, 1.0]]
    steady = compare([[2.0, 2.0], [2.0, 2.0]], none)
    half = compare([[0.5, 0.5], [0.5, 0.5]], none)
    assert geomean([4.0, 1.0]) == pytest.approx(2.0)
    assert geomean_of({"a": steady, "b": half}) == pytest.approx((1.0, 0.0))
