"""What recording costs, held to a budget: a wider interval first, then none at all.

The core measures the CPU time of its rare path (native/own_cpu.h). Here it is compared with the
process's every few seconds:

    over the budget          the interval is doubled, up to four times at once
    over it at the widest    three times in a row: recording is switched off
    under a quarter of it    five times in a row: the interval is halved, down to what it was

What is not measured: counting in the hooks themselves, a few instructions per allocation, and what a
wider interval would not make cheaper.
"""

from __future__ import annotations

from time import monotonic_ns, process_time_ns

from fastalloc import _core, background, control

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

LOOK_SECONDS = 2.0
LEAST_CPU_NS = 100_000_000  # of the process, before its share is judged
LEAST_PASSES = 128  # samples and frees of samples: of fewer, too few were measured to tell
LEAST_SHARE_OF_TIME = 0.001  # below, an idle process's housekeeping would count as overhead
WIDEST_BYTES = 32 << 20
DOUBLINGS_AT_ONCE = 4
OFF_AFTER = 3
NARROW_AFTER = 5
PERCENT = {"standby": 1, "light": 1, "aggressive": 5}  # where overhead_percent does not say
MILLION = 1_000_000

_percent: float | None = None


class _Watch:
    """Since when we compare, and what the interval was before we widened it."""

    __slots__ = ("cpu_ns", "narrow", "ours", "over", "own_ns", "passes", "theirs", "time_ns")

    def __init__(self) -> None:
        self.theirs = self.ours = 0  # interval as asked for, and as we widened it; 0: we did not
        self.over = self.narrow = 0  # times in a row
        self.mark(_core.state())

    def mark(self, state: Mapping[str, Any]) -> None:
        self.time_ns, self.cpu_ns = monotonic_ns(), process_time_ns()
        self.own_ns, self.passes = state["own_cpu_ns"], state["samples"] + state["freed"]


_watch: _Watch | None = None


def begin(percent: float | None) -> None:
    """Watch over the recording that begins. percent: None depends on the mode, 0 is no budget."""
    global _percent, _watch
    _percent, _watch = percent, None
    if percent == 0:
        background.cancel("overhead")
    else:
        background.every(LOOK_SECONDS, look, "overhead")


def look() -> None:
    """Compare, and act. In the watcher's thread; some microseconds."""
    global _watch
    watch = _watch
    state = _core.state()
    own, cpu, time = state["own_cpu_ns"], process_time_ns(), monotonic_ns()
    if watch is None or own < watch.own_ns or cpu < watch.cpu_ns:  # new; or a forked child
        _watch = _Watch()
        return
    own, cpu, time = own - watch.own_ns, cpu - watch.cpu_ns, time - watch.time_ns
    if cpu < LEAST_CPU_NS:
        return
    is_telling = state["samples"] + state["freed"] - watch.passes >= LEAST_PASSES
    watch.mark(state)
    share = min(own / cpu, 1.0)
    _core.note_own_cpu(round(share * MILLION))
    interval = int(state["interval_bytes"])
    budget = PERCENT.get(state["mode"], 0) if _percent is None else _percent
    if not budget or interval <= 1 or state["mode"] == "targeted":
        return  # everything is to be recorded: that is what was asked for
    if interval != watch.ours:
        watch.theirs, watch.ours = interval, 0
    if is_telling and share * 100 > budget and own > time * LEAST_SHARE_OF_TIME:
        watch.narrow = 0
        _widen(watch, interval, share, budget)
    else:
        watch.over = 0
        watch.narrow = watch.narrow + 1 if share * 400 < budget or not is_telling else 0
        if watch.ours and watch.narrow >= NARROW_AFTER:
            watch.narrow = 0
            _set(watch, max(interval // 2, watch.theirs), share)


def _widen(watch: _Watch, interval: int, share: float, budget: float) -> None:
    widest = max(WIDEST_BYTES, watch.theirs)
    wider = interval
    for _ in range(DOUBLINGS_AT_ONCE):
        if wider < widest and wider * budget < interval * share * 100:
            wider = min(wider * 2, widest)
    if wider > interval:
        watch.over = 0
        _set(watch, wider, share)
        return
    watch.over += 1
    if watch.over >= OFF_AFTER:
        _core.note_overhead(round(share * MILLION), 0)
        control.hold("overhead")


def _set(watch: _Watch, interval: int, share: float) -> None:
    _core.note_overhead(round(share * MILLION), interval)
    watch.ours = interval if interval != watch.theirs else 0
