"""What a request's span is called: the method and the route's template.

Never a word of the raw path: it may hold a secret (a reset token, a customer's name), and no rule tells a
value from a word. Where no framework tells the route, the request is "GET (no route)". And there is an end
of names: a middleware gives at most `MAX_NAMES` before it says "(other)".
"""

from __future__ import annotations

NO_ROUTE = "(no route)"  # what no route matches, or none is known of, shares one name
MAX_NAMES = 500
_METHODS = frozenset(
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "WEBSOCKET"]
)

UNNAMED = {method: f"{method} {NO_ROUTE}" for method in _METHODS}


def method_name(method: str) -> str:
    """The method in capitals; one that HTTP does not know is "(other)"."""
    if method in _METHODS:
        return method
    method = method.upper()
    return method if method in _METHODS else "(other)"


class Names:
    """Gives out names, `MAX_NAMES` different ones at most."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def bounded(self, name: str) -> str:
        """The name itself, or "METHOD (other)" once too many have been given."""
        if name in self._given:
            return name
        if len(self._given) < MAX_NAMES:
            self._given.add(name)
            return name
        return f"{name.partition(' ')[0]} (other)"
