"""The sums: ratios of interleaved rounds, their medians and spread."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

Rounds = Sequence[Sequence[float | None]]
"""CPU seconds of one loop, by launch and round; None where the profiler did not take part."""


@dataclass(frozen=True)
class Ratio:
    """CPU time of one profiler over that of none: each round over none's round beside it."""

    mean: float
    """The geometric mean of the launches' medians, without the fifth that is highest and the fifth that is lowest. A
    round may be slow by accident, hence the median. So may a launch: of 4,000 processes one took twice its time from its
    first round to its last. The others differ by the place of things in memory, which is drawn by lot (lot.py)."""
    low: float  # first quartile
    high: float  # third quartile
    rounds: int
    by_launch: tuple[float, ...]
    """The median of each launch."""

    @property
    def error(self) -> float:
        """Standard error of the mean: the larger of what rounds tell and what launches tell.

        Of rounds: that of a normal variable's median, from the quartiles, as notched box plots have it. It knows
        nothing of what a new launch changes; of launches: that of a trimmed mean, from the deviation of their medians, where
        those left out count as the nearest that is not (Tukey and McLaughlin 1963). A few launches may agree by accident,
        so neither does alone. Infinite where a single round tells nothing.
        """
        if self.rounds < 2:
            return math.inf
        error = 1.2533 * (self.high - self.low) / 1.349 / math.sqrt(self.rounds)
        if len(self.by_launch) > 1:
            count, kept = len(self.by_launch), _trimmed(self.by_launch)
            winsorized = [min(max(ratio, kept[0]), kept[-1]) for ratio in self.by_launch]
            between = statistics.stdev(winsorized) / (len(kept) / count) / math.sqrt(count)
            error = max(error, between)
        return error

    def above(self, limit: float) -> bool:
        """Whether it is over the limit by more than noise: two standard errors."""
        return self.mean - 2 * self.error > limit


def _trimmed(launches: Sequence[float]) -> list[float]:
    """In order, without a fifth at either end."""
    left_out = len(launches) // 5
    return sorted(launches)[left_out : len(launches) - left_out]


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
    low, _, high = statistics.quantiles(every, n=4, method="inclusive")
    medians = tuple(statistics.median(launch) for launch in launches)
    return Ratio(geomean(_trimmed(medians)), low, high, len(every), medians)


def base(seconds: Mapping[str, Rounds], name: str) -> Rounds:
    """What a profiler is compared with: the geometric mean of the two processes without one, where both took part.

    Two are off by less than one, by 1 / sqrt(2) where that is chance. "none, again" is compared with the other alone.
    """
    first, second = seconds["none"], seconds.get("control", [])
    if name == "control":
        return first
    return [
        [
            math.sqrt(one * other) if one and other else one or other
            for one, other in zip_longest(ones, others)
        ]
        for ones, others in zip_longest(first, second, fillvalue=())
    ]


def geomean(values: Iterable[float]) -> float:
    """Geometric mean."""
    return math.exp(statistics.fmean(math.log(value) for value in values))


def geomean_of(ratios: Mapping[str, Ratio]) -> tuple[float, float]:
    """Geometric mean over workloads, and its standard error: those of the workloads are independent."""
    mean = geomean(ratio.mean for ratio in ratios.values())
    relative = math.hypot(*(ratio.error / ratio.mean for ratio in ratios.values()))
    return mean, mean * relative / len(ratios)
