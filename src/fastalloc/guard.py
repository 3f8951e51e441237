"""What is done when the memory runs out: a line in the log, a dump, callbacks; then tracking stops.

The core finds out (native/guard.h) and has stamped it into the recording before anything here runs; this
runs in the watcher's thread. It does not raise, and does no more than `guard_dumps_per_day` allows.
"""

from __future__ import annotations

import os
import sys
from time import monotonic

from fastalloc import _core, background, logs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from fastalloc.config import Config
    from fastalloc.limits import Limit

    F = TypeVar("F", bound=Callable[["Trip"], object])

DAY_SECONDS = 86400.0
SWITCH_SECONDS = 0.0005

_on_trip: list[Callable[[Trip], object]] = []
_on_warning: list[Callable[[Trip], object]] = []
_dumped: list[float] = []  # when, by monotonic()
_warned_at = -DAY_SECONDS
_config: Config | None = None
_limits: list[Limit] = []
_registered = False


class Trip:
    """What the guard has seen. kind: "warned" or "tripped". usage_bytes, limit_bytes, percent: int.
    limit_source: where the limit comes from. size: bytes of the allocation that would have carried the
    usage over the line, 0: it was many, or memory touched later. frame: "function (file:line)" of who
    allocated, "" if not known. recording, dump: paths; dump "" where none was written, and then
    dump_reason says why. pid: int."""

    __slots__ = (
        *("dump", "dump_reason", "frame", "kind", "limit_bytes", "limit_source"),
        *("percent", "pid", "recording", "size", "usage_bytes"),
    )

    def __init__(self, kind: str) -> None:
        state: dict[str, Any] = _core.state()
        usage, self.size, self.frame = state["limit_usage_bytes"], 0, ""
        if kind == "tripped":
            usage, self.size, self.frame = _core.guard_trip()
        index = state["limit_index"]
        self.kind, self.pid = kind, os.getpid()
        self.usage_bytes, self.limit_bytes = usage, state["limit_bytes"]
        self.percent = usage * 100 // max(self.limit_bytes, 1)
        self.limit_source = _limits[index].source if index < len(_limits) else ""
        self.recording, self.dump, self.dump_reason = state["recording"], "", ""

    def to_dict(self) -> dict[str, object]:
        """All attributes, fit for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


def on_trip(function: F) -> F:
    """Have `function(trip)` called when usage has passed guard_percent and the dump is written.

    It runs in the watcher's thread and should be short: to leave the load balancer, to close a cache. What
    it raises is counted in the breaker "guard callbacks" and goes no further. Also a decorator.
    """
    if function not in _on_trip:
        _on_trip.append(function)
    return function


def on_warning(function: F) -> F:
    """The same for summary_percent, after the line in the log; at most once in a cooldown."""
    if function not in _on_warning:
        _on_warning.append(function)
    return function


def remove(function: Callable[[Trip], object]) -> None:
    """Forget a callback; does nothing without it."""
    for functions in (_on_trip, _on_warning):
        if function in functions:
            functions.remove(function)


def options(config: Config) -> dict[str, int]:
    """What the core needs of the options."""
    guard = int(config.guard_percent)
    return {
        "summary_percent": int(config.summary_percent),
        "guard_percent": guard,
        # Above the line it would be armed only to trip again.
        "guard_rearm_percent": min(int(config.guard_rearm_percent), max(guard - 1, 0)),
        "guard_cooldown_seconds": config.guard_cooldown_seconds,
        "standby_light_percent": int(config.standby_light_percent),
        "standby_aggressive_percent": int(config.standby_aggressive_percent),
    }


def limits_of(found: list[Limit]) -> list[tuple[int, int, bytes, bytes]]:
    """The same of the limits."""
    from fastalloc.limits import KINDS

    return [
        (
            limit.limit_bytes,
            KINDS.index(limit.kind),
            os.fsencode(limit.usage_path),
            os.fsencode(limit.path),
        )
        for limit in found
    ]


def begin(config: Config, limits: list[Limit]) -> None:
    """Recording has started."""
    global _config, _limits, _registered
    _config, _limits = config, limits
    if not _registered:
        _registered = True
        background.on("warned", _warned)
        background.on("tripped", _tripped)
        background.on("rearm", _core.guard_rearm)


def _warned() -> None:
    global _warned_at
    now = monotonic()
    if _config is None or now - _warned_at < _config.guard_cooldown_seconds:
        return
    if _core.state()["guard"] == "tripped":  # meanwhile: that is told, and more
        return
    _warned_at = now
    trip = Trip("warned")
    _log(trip)
    _call(_on_warning, trip)


def _tripped() -> None:
    trip = Trip("tripped")
    # Other threads run Python too, and take more memory: for the dump, none keeps the GIL for long.
    interval = sys.getswitchinterval()
    sys.setswitchinterval(min(interval, SWITCH_SECONDS))
    try:
        _dump(trip)
    finally:
        if sys.getswitchinterval() <= SWITCH_SECONDS:  # nobody has set another one meanwhile
            sys.setswitchinterval(interval)
        _core.guard_stop_tracking()
        _log(trip)
        _call(_on_trip, trip)


def _dump(trip: Trip) -> None:
    now = monotonic()
    _dumped[:] = [at for at in _dumped if now - at < DAY_SECONDS]
    if _config is not None and len(_dumped) >= _config.guard_dumps_per_day:
        trip.dump_reason = f"guard_dumps_per_day: {len(_dumped)} written in 24 hours"
        return
    _dumped.append(now)
    from fastalloc import dumps

    try:
        trip.dump = dumps.write("guard")
    except Exception as error:  # a full disk, most likely: the recording has the trip all the same
        trip.dump_reason = getattr(error, "strerror", None) or type(error).__name__


def _log(trip: Trip) -> None:
    told = trip.to_dict()
    logs.tell(f"memory_{told.pop('kind')}", told)


def _call(functions: list[Callable[[Trip], object]], trip: Trip) -> None:
    from fastalloc.breaker import Breaker

    for function in tuple(functions):
        Breaker("guard callbacks").call(function, trip)


def _in_child() -> None:
    _dumped.clear()


os.register_at_fork(after_in_child=_in_child)
