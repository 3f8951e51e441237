"""The sums: ratios of interleaved rounds, their medians and spread."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Rounds = Sequence[Sequence[float | None]]
"""CPU seconds of one loop, by launch and round; None where the profiler did not take part."""


@dataclass(frozen=True)
class Ratio:
    """CPU time of one profiler over that of none: each round over none's round beside it."""

    median: float
    low: float  # first quartile
    high: float  # third quartile
    rounds: int
    by_launch: tuple[float, ...]
    """The median of each launch: what differs between them is where things lie in memory."""

    @property
    def error(self) -> float:
        """Standard error of the median: the larger of what rounds tell and what launches tell.

        Of rounds: that of a normal variable's median, from the quartiles, as notched box plots have it. It knows
        nothing of what a new launch changes; of launches: the deviation of their medians. A few launches may agree
        by accident, so neither does alone. Infinite where a single round tells nothing.
        """
        if self.rounds < 2:
            return math.inf
        error = 1.2533 * (self.high - self.low) / 1.349 / math.sqrt(self.rounds)
        if len(self.by_launch) > 1:
            between = statistics.stdev(self.by_launch) / math.sqrt(len(self.by_launch))
            error = max(error, between)
        return error

    def above(self, limit: float) -> bool:
        """Whether it is over the limit by more than noise: two standard errors."""
        return self.median - 2 * self.error > limit


def compare(rounds: Rounds, none: Rounds) -> Ratio | None:
    """Pair the rounds of a profiler with those of none; None if no two lie side by side."""
    launches = [
        [mine / theirs for mine, theirs in zip(ours, base, strict=False) if mine and theirs]
        for ours, base in zip(rounds, none, strict=False)
    ]
    launches = [launch for launch in launches if launch]
    every = sorted(ratio for launch in launches for ratio in launch)
    if len(every) < 2:
        return Ratio(every[0], every[0], every[0], 1, tuple(every)) if every else None
    low, median, high = statistics.quantiles(every, n=4, method="inclusive")
    medians = tuple(statistics.median(launch) for launch in launches)
    return Ratio(median, low, high, len(every), medians)


def geomean(values: Iterable[float]) -> float:
    """Geometric mean."""
    return math.exp(statistics.fmean(math.log(value) for value in values))


def geomean_of(ratios: Mapping[str, Ratio]) -> tuple[float, float]:
    """Geometric mean over workloads, and its standard error: those of the workloads are independent."""
    mean = geomean(ratio.median for ratio in ratios.values())
    relative = math.hypot(*(ratio.error / ratio.median for ratio in ratios.values()))
    return mean, mean * relative / len(ratios)
