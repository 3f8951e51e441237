"""What all requests of a route came to, looked at in detail or not: sums that can be added up over
processes and time, from which averages, variances and quantiles follow."""

from __future__ import annotations

from time import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_ROUTES = 500
OTHER = "(other)"


class Totals:
    """Of one route. Sums of squares are of MiB and of ms, or they would not fit a float's 53 bits."""

    __slots__ = (
        *("bytes", "bytes_log2", "bytes_max", "count", "errors", "held_bytes", "mib_squared", "ms"),
        *("ms_max", "ms_squared", "peak_bytes_max"),
    )

    def __init__(self) -> None:
        self.count = self.errors = 0
        self.bytes = self.bytes_max = self.held_bytes = self.peak_bytes_max = 0
        self.ms = self.ms_max = self.ms_squared = self.mib_squared = 0.0
        self.bytes_log2: dict[int, int] = {}

    def add(self, duration_ns: int, allocated: int, held: int, peak: int, is_error: bool) -> None:
        """One more request."""
        ms, mib = duration_ns / 1e6, allocated / 1048576
        self.count += 1
        self.errors += is_error
        self.bytes += allocated
        self.held_bytes += held
        self.ms += ms
        self.ms_squared += ms * ms
        self.mib_squared += mib * mib
        if ms > self.ms_max:
            self.ms_max = ms
        if allocated > self.bytes_max:
            self.bytes_max = allocated
        if peak > self.peak_bytes_max:
            self.peak_bytes_max = peak
        width = allocated.bit_length()
        self.bytes_log2[width] = self.bytes_log2.get(width, 0) + 1

    def to_dict(self) -> dict[str, Any]:
        """Fit for JSON."""
        return {
            "count": self.count,
            "errors": self.errors,
            "bytes": self.bytes,
            "bytes_max": self.bytes_max,
            "mib_squared": round(self.mib_squared, 6),
            "bytes_log2": {str(width): self.bytes_log2[width] for width in sorted(self.bytes_log2)},
            "held_bytes": self.held_bytes,
            "peak_bytes_max": self.peak_bytes_max,
            "ms": round(self.ms, 3),
            "ms_max": round(self.ms_max, 3),
            "ms_squared": round(self.ms_squared, 3),
        }


class Routes:
    """Totals by route, since the last time they were taken."""

    def __init__(self) -> None:
        self._totals: dict[str, Totals] = {}
        self._since = time()

    def of(self, route: str) -> Totals:
        """The totals of a route; beyond `MAX_ROUTES` those of all others."""
        found = self._totals.get(route)
        if found is None:
            if len(self._totals) >= MAX_ROUTES:
                route = OTHER
            found = self._totals.setdefault(route, Totals())
        return found

    def take(self) -> dict[str, Any] | None:
        """The totals so far, as a line of the log, and begin anew; None where nothing was added."""
        taken, self._totals = self._totals, {}
        since, self._since = self._since, time()
        if not taken:
            return None
        routes = {name: totals.to_dict() for name, totals in taken.items()}
        return {
            "kind": "routes",
            "since": round(since, 3),
            "until": round(self._since, 3),
            "routes": routes,
        }
