"""The sums behind the tables."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from benchmarks.ratios import base, compare, geomean, geomean_of


def test_a_slow_machine_cancels_out_between_rounds_side_by_side() -> None:
    none = [[1.0, 2.0, 4.0], [1.0, 1.0, 3.0]]
    ours = [[1.1 * seconds for seconds in launch] for launch in none]
    ratio = compare(ours, none)
    assert (ratio.mean, ratio.low, ratio.high) == pytest.approx((1.1,) * 3)


def test_rounds_left_out_are_left_out() -> None:
    ratio = compare([[2.0, None, 2.0, None]], [[1.0, 5.0, 1.0, 5.0]])
    assert (ratio.mean, ratio.by_launch) == (2.0, (2.0,))


def test_a_launch_weighs_the_same_whatever_its_rounds() -> None:
    ratio = compare([[1.0] * 3, [4.0] * 30], [[1.0] * 3, [1.0] * 30])
    assert (ratio.mean, ratio.by_launch) == (2.0, (1.0, 4.0))


def test_one_launch_in_five_may_be_slow_by_accident() -> None:
    none = [[1.0] * 3] * 6
    ratio = compare([[1.0] * 3, [1.21] * 3, [1.1] * 3, [1.1] * 3, [2.0] * 3, [1.1] * 3], none)
    assert ratio.mean == pytest.approx((1.1**3 * 1.21) ** 0.25)
    # left out are 1 and 2, which count as 1.1 and 1.21: deviation 0.0568 of six, of which two thirds make the mean
    assert ratio.error == pytest.approx(0.0568 / (4 / 6) / math.sqrt(6), rel=1e-3)


def test_the_error_of_a_trimmed_mean_is_what_its_means_deviate_by() -> None:
    generator = random.Random(3)
    found = [
        compare([[generator.gauss(1.1, 0.02)] * 2 for _ in range(10)], [[1.0, 1.0]] * 10)
        for _ in range(2000)
    ]
    deviation = statistics.stdev(each.mean for each in found)
    # of 2,000 means the deviation is known to 1.6 %; that a spread of ten is told too low by some per cent is as it is
    assert statistics.fmean(each.error for each in found) == pytest.approx(deviation, rel=0.1)


def test_the_base_is_the_mean_of_both_that_have_no_profiler() -> None:
    none = [[1.0, 4.0, None], [2.0]]
    seconds = {"none": none, "control": [[4.0, None, 9.0]]}
    assert base(seconds, "light") == [[2.0, 4.0, 9.0], [2.0]]
    assert base(seconds, "control") == none
    assert base({"none": none}, "light") == none


def test_geometric_mean_over_workloads_with_its_error() -> None:
    none = [[1.0, 1.0], [1.0, 1.0]]
    steady = compare([[2.0, 2.0], [2.0, 2.0]], none)
    half = compare([[0.5, 0.5], [0.5, 0.5]], none)
    assert geomean([4.0, 1.0]) == pytest.approx(2.0)
    assert geomean_of({"a": steady, "b": half}) == pytest.approx((1.0, 0.0))


def test_the_error_is_that_of_launches_where_they_differ_more_than_rounds() -> None:
    none = [[1.0] * 8, [1.0] * 8]
    apart = compare([[1.0] * 8, [1.2] * 8], none)
    assert apart
    # the median's error from rounds alone (quartiles 1 and 1.2 of 16): 0.046; of two medians 0.2 apart: 0.1
    assert apart.error == pytest.approx(0.1)


def test_the_error_of_one_launch_is_that_of_its_rounds_and_of_one_round_unknown() -> None:
    generator = random.Random(7)
    none = [[1.0] * 400]
    noisy = compare([[generator.gauss(1.1, 0.02) for _ in range(400)]], none)
    assert noisy
    # 1.2533 x 0.02 / 20 = 0.00125; quartiles of 400 are some 4 % off, four times that are allowed
    assert noisy.error == pytest.approx(0.00125, rel=0.2)
    assert noisy.above(noisy.mean - 3 * noisy.error)
    assert not noisy.above(noisy.mean - noisy.error)
    single = compare([[2.0]], [[1.0]])
    assert single
    assert math.isinf(single.error)
    assert not single.above(1.0)
