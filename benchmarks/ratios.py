"""The sums: ratios of interleaved rounds, their medians and spread."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

Rounds = Sequence[Sequence[float | None]]
"""CPU seconds of one loop, by launch and round; None where the profiler did not take part."""


@dataclass(frozen=True)
class Ratio:
    """CPU time of one profiler over that of none: each round over none's round beside it."""

    median: float
    low: float  # first quartile
    high: float  # third quartile
    by_launch: tuple[float, ...]
    """The median of each launch: what differs between them is where things lie in memory."""

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def compare(rounds: Rounds, none: Rounds) -> Ratio | None:
    """Pair the rounds of a profiler with those of none; None if no two lie side by side."""
    launches = [
        [mine / theirs for mine, theirs in zip(ours, base, strict=False) if mine and theirs]
        for ours, base in zip(rounds, none, strict=False)
    ]
    launches = [launch for launch in launches if launch]
    every = sorted(ratio for launch in launches for ratio in launch)
    if len(every) < 2:
        return Ratio(every[0], every[0], every[0], tuple(every)) if every else None
    low, median, high = statistics.quantiles(every, n=4, method="inclusive")
    return Ratio(median, low, high, tuple(statistics.median(launch) for launch in launches))


def geomean(values: Iterable[float]) -> float:
    """Geometric mean."""
    return math.exp(statistics.fmean(math.log(value) for value in values))


def geomean_of(ratios: Mapping[str, Ratio]) -> tuple[float, float]:
    """Geometric mean over workloads, and its standard error as far as launches tell."""
    by_launch = [
        geomean(launch) for launch in zip(*(r.by_launch for r in ratios.values()), strict=False)
    ]
    error = statistics.stdev(by_launch) / math.sqrt(len(by_launch)) if len(by_launch) > 1 else 0.0
    return geomean(ratio.median for ratio in ratios.values()), error
