"""Which requests are looked at in detail, and which are kept in the log.

- A few by lot, so that what they say holds for all: `request_percent`.
- One of each route and minute, so that the rare route is not missed.
- One that is growing large while it runs, so that its detail is there when it matters.
- At its end: one whose own memory stood higher than that of nearly all others of the minute.

Law: the cost of the choice is bounded whatever the traffic: names by `MAX_ROUTES`, detail by the
minute.
"""

from __future__ import annotations

import _random  # the class behind `random`, without the 3 ms that importing `random` takes
from math import log1p
from time import monotonic

NEVER = 1 << 62
MAX_ROUTES = 1000
ROUTE_SECONDS = 60.0
GROWING_BYTES = 16 << 20
GROWING_SECONDS = 10.0
LARGEST_SECONDS = 60.0
LARGEST_COUNT = 5
LARGEST_BYTES = 4 << 20  # what is smaller is never kept for its size


class Choice:
    """The choices of one process. Draws are the same in each run with the same seed; 0: they are not."""

    def __init__(self, seed: int = 0) -> None:
        self._random = _random.Random(seed) if seed else _random.Random()
        self.looks_due: dict[str, float] = {}
        self._growing_due: dict[str, float] = {}
        self._largest: list[int] = []
        self._largest_until = 0.0

    def draw(self, percent: float) -> int:
        """How many requests pass before the next one of `percent` in a hundred: one draw for each that is
        chosen, from the geometric distribution, by inversion."""
        if percent <= 0:
            return NEVER
        if percent >= 100:
            return 0
        passed = log1p(-self._random.random()) / log1p(-percent / 100)
        return int(min(passed, NEVER))

    def for_its_route(self, route: str) -> bool:
        """Whether no request of the route has been looked at for a minute."""
        return _is_due(self.looks_due, route, ROUTE_SECONDS)

    def looked_at(self, route: str) -> None:
        """A request of the route is looked at, for whatever reason."""
        if route in self.looks_due or len(self.looks_due) < MAX_ROUTES:
            self.looks_due[route] = monotonic() + ROUTE_SECONDS

    def for_growing(self, route: str, held_bytes: int) -> bool:
        """Whether a running request has grown so large that the rest of it shall be looked at."""
        return held_bytes >= GROWING_BYTES and _is_due(self._growing_due, route, GROWING_SECONDS)

    def for_its_size(self, peak_bytes: int) -> bool:
        """Whether an ended request is among the largest of this minute so far."""
        if peak_bytes < LARGEST_BYTES:
            return False
        now = monotonic()
        if now >= self._largest_until:
            self._largest_until = now + LARGEST_SECONDS
            self._largest = []
        largest = self._largest
        if len(largest) >= LARGEST_COUNT:
            smallest = min(largest)
            if peak_bytes <= smallest:
                return False
            largest.remove(smallest)
        largest.append(peak_bytes)
        return True


def _is_due(due: dict[str, float], route: str, seconds: float) -> bool:
    now = monotonic()
    if now < due.get(route, 0.0) or (route not in due and len(due) >= MAX_ROUTES):
        return False
    due[route] = now + seconds
    return True
