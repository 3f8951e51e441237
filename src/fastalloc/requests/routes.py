"""What all requests of a route came to, looked at in detail or not: sums that can be added up over
processes and time, from which averages, variances and quantiles follow."""

from __future__ import annotations

from time import time

try:
    from fastalloc._core import RouteTotals, set_route_totals
except ImportError:
    from fastalloc.inactive import RouteTotals, set_route_totals  # type: ignore[assignment]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_ROUTES = 500
OTHER = "(other)"


class Routes:
    """RouteTotals by route, since the last time they were taken.

    all_are_told: whether somebody wants to be told of every request that ends.
    """

    def __init__(self, all_are_told: bool = False) -> None:
        self.all_are_told = all_are_told
        self._totals: dict[str, RouteTotals] = {}
        self._since = time()
        self.share()

    def share(self) -> None:
        """Let the core add most requests by itself: those of a route that is known here."""
        set_route_totals(self._totals, self.all_are_told)

    def of(self, route: str) -> RouteTotals:
        """The totals of a route; beyond `MAX_ROUTES` those of all others."""
        found = self._totals.get(route)
        if found is None:
            if len(self._totals) >= MAX_ROUTES:
                route = OTHER
            found = self._totals.setdefault(route, RouteTotals())
        return found

    def take(self) -> dict[str, Any] | None:
        """The totals so far, as a line of the log, and begin anew; None where nothing was added."""
        taken, self._totals = self._totals, {}
        self.share()
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
