"""Estimates against the truth: within the error that theory gives, and without bias.

A sample of size s stands for w = s / p bytes, p being the chance that one of the events, of which each stratum of
`interval` bytes has one, falls into it (native/sampler.h). If that were by chance for each block alone, the standard
error of an estimate would be the root of the sum of s^2 (1 - p) / p over all that is alive, which the recording's own
estimate of it, the sum of w (w - s) over the samples, is of. It is less, since a stratum has no second event.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.core.programs import Programs

PROGRAM = """
import fastalloc
from tests.core.inside import *
fastalloc.start(interval_bytes=INTERVAL, scale=32)  # room for all, and what the check makes
results = []
header = bytes().__sizeof__()
def run():
    small = [bytes(40) for _ in range(20_000)]
    middle = [bytes(480) for _ in range(4_000)]
    large = [bytes(9_000) for _ in range(500)]
    huge = [bytes(2_000_000) for _ in range(3)]
    gone = [bytes(700) for _ in range(5_000)]
    del gone
    found = {}
    for sample in live().values():
        if sample.size in (73, 513, 9033, 2000033, 733):
            total, square, n = found.get(sample.size, (0, 0, 0))
            found[sample.size] = (total + sample.weight,
                                  square + sample.weight * (sample.weight - sample.size), n + 1)
    results.append(found)
for _ in range(RUNS): run()
answer(results=results)
"""
BLOCKS = {73: 20_000, 513: 4_000, 9_033: 500, 2_000_033: 3}


def chances(size: int, interval: int) -> np.ndarray:
    """That a block is sampled, for each place where it may lie in its stratum: see native/sampler.h."""
    at = np.arange(interval)
    first = np.minimum(size, interval - at)
    last = size - first
    none = (1 - first / interval) * (1 - np.minimum(last / interval, 1))
    return 1 - none


def check(programs: Programs, interval: int, runs: int) -> None:
    source = PROGRAM.replace("INTERVAL", str(interval)).replace("RUNS", str(runs))
    done = programs.run(source, timeout=1200)
    results = done.answer["results"]
    assert "thinned" not in list(done.snapshot().events["kind"])
    assert len(results) == runs
    for size, count in BLOCKS.items():
        truth = size * count
        by_place = chances(size, interval)
        p = float(by_place.mean())
        error = math.sqrt(count * size * size * float(((1 - by_place) / by_place).mean()))
        estimates = np.array([run.get(str(size), (0, 0, 0))[0] for run in results], float)
        if error == 0 or count * (1 - p) < 1e-3:
            assert (np.abs(estimates - truth) <= count).all()
            continue
        # No bias: the mean of all runs, within 4.5 of its standard errors (1 in 150,000).
        assert abs(estimates.mean() - truth) < 4.5 * error / math.sqrt(runs), (size, interval)
        # Each run: with a handful of samples the law is skewed, so 6 errors and 5 samples' weight.
        slack = 6 * error + 5 * size / p
        assert (np.abs(estimates - truth) < slack).all(), (size, interval)
        if size / p - size < 50:
            continue  # weights are whole bytes: too coarse for the check below
        # The error that a reader works out from the samples is that bound.
        told = np.array([run.get(str(size), (0, 0, 0))[1] for run in results], float)
        samples = runs * count * p
        assert abs(told.mean() / error**2 - 1) < 5 / math.sqrt(samples) + 0.01, (size, interval)
        # What there is is less: the variance of so many runs is known to sqrt(2 / runs).
        variance = float(np.square(estimates - truth).mean())
        assert variance < error**2 * (1 + 5 * math.sqrt(2 / runs)), (size, interval)
        if runs >= 1000 and truth > 15 * interval:
            # Half of what is allocated on the line is the list as it grows, so half the variance is left.
            assert variance < 0.8 * error**2, (size, interval)
    freed = [run.get("733", (0, 0, 0))[0] for run in results]
    assert sum(freed) == 0


@pytest.mark.parametrize("interval", [1, 3000, 65536])
def test_live_bytes_by_size_are_estimated_within_the_theoretical_error(
    programs: Programs, interval: int
) -> None:
    check(programs, interval, 30)


@pytest.mark.slow
@pytest.mark.parametrize("interval", [1000, 65536, 524288])
def test_there_is_no_bias_over_a_thousand_runs(programs: Programs, interval: int) -> None:
    check(programs, interval, 1000)


@pytest.mark.slow
def test_estimates_by_line_and_their_counts_are_within_their_errors(programs: Programs) -> None:
    done = programs.run(
        """
        import fastalloc
        from tests.core.inside import *
        fastalloc.start(interval_bytes=20_000, scale=4)
        kept = []
        for _ in range(3):
            kept.append([bytes(40) for _ in range(30_000)])
            kept.append([{"a": str(i)} for i in range(20_000)])
            kept.append(["x" * (i % 1000) for i in range(9_000)])
            kept.append([[0] * 200 for i in range(3_000)])
        fastalloc.stop()
        """
    )
    truth = programs.run(
        """
        import fastalloc
        from tests.core.inside import *
        fastalloc.start(interval_bytes=1, scale=64)
        kept = []
        for _ in range(3):
            kept.append([bytes(40) for _ in range(30_000)])
            kept.append([{"a": str(i)} for i in range(20_000)])
            kept.append(["x" * (i % 1000) for i in range(9_000)])
            kept.append([[0] * 200 for i in range(3_000)])
        fastalloc.stop()
        """
    )
    exact = {row.key: row for row in truth.snapshot().top(group="line", limit=None)}
    rows = {row.key: row for row in done.snapshot().top(group="line", limit=None)}
    large = {key: row for key, row in exact.items() if row.live_bytes > 1_000_000}
    assert len(large) == 4
    for key, row in large.items():
        assert row.error_bytes == 0
        assert abs(rows[key].live_bytes - row.live_bytes) < 5 * rows[key].error_bytes
        assert abs(rows[key].live_count / row.live_count - 1) < 0.2
