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


def unnamed(method: str) -> str:
    """What a request is called whose route is not known, or not yet."""
    return UNNAMED.get(method) or f"{method_name(method)} {NO_ROUTE}"


class Names:
    """Gives out names, `MAX_NAMES` different ones at most."""

    def __init__(self) -> None:
        self._given: set[str] = set()
        self._ready: dict[tuple[str, str], str] = {}  # by method and route: what was given for them

    def of(self, method: str, route: str) -> str:
        """ "METHOD route", bounded likewise."""
        name = self._ready.get((method, route))
        if name is None:
            name = self.bounded(f"{method_name(method)} {route}")
            if name == f"{method} {route}":  # so there are as many at most as names are given
                self._ready[method, route] = name
        return name

    def bounded(self, name: str) -> str:
        """The name itself, or "METHOD (other)" once too many have been given."""
        if name in self._given:
            return name
        if len(self._given) < MAX_NAMES:
            self._given.add(name)
            return name
        return f"{name.partition(' ')[0]} (other)"
