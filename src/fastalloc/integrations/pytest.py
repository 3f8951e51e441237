"""pytest: what recording costs a function of yours, as a fixture.

    def test_recording_costs_little(fastalloc_overhead):
        overhead = fastalloc_overhead(lambda: render(orders))
        assert overhead.ratio < 1.10
        assert overhead.peak_bytes < 50_000_000

pytest finds it once fastalloc is installed (`-p no:fastalloc` leaves it out). Nothing is recorded, and nothing of
the recorder runs, outside a call of the fixture.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

import fastalloc

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    class Measure(Protocol):
        """What the fixture gives."""

        def __call__(
            self, function: Callable[[], object], rounds: int = ..., **options: Any
        ) -> Overhead:
            """Measure `function`."""


__all__ = ["Overhead", "fastalloc_overhead"]

ROUNDS = 41
ROUND_SECONDS = 0.01
PHASE, EMPTY = "fastalloc_overhead", "fastalloc_overhead, nothing"


class Overhead(NamedTuple):
    """What recording costs a function, and what the function allocates."""

    ratio: float
    """CPU time with recording over that without: the median over the rounds, each beside one without."""
    low: float
    """First quartile of these ratios."""
    high: float
    """Third quartile."""
    noise: float
    """The same ratio of two rounds without: how far it is from 1 is how far `ratio` can be trusted."""
    rounds: int
    """How many of each kind were measured."""
    calls: int
    """Of the function in each round."""
    seconds: float
    """CPU time of one call without recording, the median."""
    allocated_count: int
    """Allocations of one call, exact: in this thread, and in tasks and threads that inherit its context."""
    allocated_bytes: int
    """Bytes of them, exact."""
    peak_bytes: int
    """The most that blocks allocated during one call held at a time, in all threads; `allocated_bytes` is what
    all of them would have held. From every single block; a KiB or two of the measuring is in it."""
    lost_count: int
    """Blocks that did not fit into the recording of that call: `peak_bytes` lacks them if this is not 0."""


@pytest.fixture
def fastalloc_overhead(tmp_path_factory: pytest.TempPathFactory) -> Measure:
    """Measure what recording costs: `fastalloc_overhead(function, rounds=41, mode="light", **options)`.

    Gives an `Overhead`. function: called without arguments, some hundred times; its result is dropped. rounds: of
    about 10 ms each, with recording, without, and without again, in turns. mode and options: as for
    `fastalloc.start`. Takes about 1.5 s. Raises RuntimeError where the process is recorded already, or where it
    cannot be. The hooks are taken out in the rounds without; what a middleware does around a span is
    part of both.
    """

    def measure(function: Callable[[], object], rounds: int = ROUNDS, **options: Any) -> Overhead:
        if fastalloc.status().active:
            raise RuntimeError("this process is recorded already: unset FASTALLOC_MODE for it")
        options = {
            "overhead_percent": 0,
            **options,
            "dir": str(tmp_path_factory.mktemp("fastalloc")),
        }
        try:
            timed = _timed(function, max(2, rounds), options)
            count, allocated = _allocated(function)
        finally:
            fastalloc.stop()
        return Overhead(*timed, count, allocated, *_peak(function, str(options["dir"])))

    return measure


def _start(mode: str, options: dict[str, Any]) -> None:
    fastalloc.start(mode, **options)
    if not fastalloc.status().active:
        raise RuntimeError(f"fastalloc cannot record here: {fastalloc.status().reason}")


def _timed(
    function: Callable[[], object], rounds: int, options: dict[str, Any]
) -> tuple[float, float, float, float, int, int, float]:
    """The first fields of Overhead. Leaves the recorder on."""
    import statistics

    _start(options.pop("mode", "light"), options)
    fastalloc.disable()
    calls = 1
    while _seconds(function, calls) * calls < ROUND_SECONDS and calls < 1 << 24:
        calls *= 2
    kinds = ("with", "without", "again")
    found: dict[str, list[float]] = {kind: [] for kind in kinds}
    for turn in range(rounds):
        first = turn % len(kinds)
        for kind in (*kinds[first:], *kinds[:first]):
            fastalloc.enable() if kind == "with" else fastalloc.disable()
            found[kind].append(_seconds(function, calls))
    fastalloc.enable()
    without = found["without"]

    def ratios(kind: str) -> list[float]:
        return [mine / other for mine, other in zip(found[kind], without, strict=True) if other]

    low, ratio, high = statistics.quantiles(ratios("with"), n=4, method="inclusive")
    noise = statistics.median(ratios("again"))
    return ratio, low, high, noise, rounds, calls, statistics.median(without)


def _seconds(function: Callable[[], object], calls: int) -> float:
    """CPU seconds of one call. Once before, for the caches, and for what a switch of hooks leaves."""
    function()
    began = time.process_time()
    for _ in range(calls):
        function()
    return (time.process_time() - began) / calls


def _allocated(function: Callable[[], object]) -> tuple[int, int]:
    """Allocations of one call, and their bytes: the exact counters of a phase, less those of an empty one."""
    for name, call in ((PHASE, function), (EMPTY, _nothing)):
        with fastalloc.phase(name):
            call()
    phases = fastalloc.snapshot().phases
    mine, empty = (phases[phases["name"] == name] for name in (PHASE, EMPTY))
    count, size = (int(mine[key].sum()) - int(empty[key].sum()) for key in ("count", "bytes"))
    return count, size


def _nothing() -> None:
    pass


def _peak(function: Callable[[], object], directory: str) -> tuple[int, int]:
    """The most that one call held, and how many blocks were lost to that sum: every block recorded."""
    _start("targeted", {"dir": directory})
    try:
        function()
    finally:
        path = fastalloc.status().recording
        fastalloc.stop()
    snapshot = fastalloc.read(path)
    return snapshot.high_water_bytes, snapshot.losses["live"]
