"""What a request's span is called: the method and the route, never the raw path.

A raw path may hold a secret (a reset token, a customer's name) and there is no end of them, so
where no framework tells the route, whatever looks like a value becomes `{id}`, and a middleware
gives at most `MAX_NAMES` names before it says "(other)".
"""

from __future__ import annotations

import re

NO_ROUTE = "(no route)"  # what no route matches shares one name
MAX_NAMES = 500
MAX_ROUTE_CHARACTERS = 120
_METHODS = frozenset(
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "WEBSOCKET"]
)

# What stays as it is in a path: words ("orders", "sign-in", ".well-known", "robots.txt") and
# words with a small number ("v2", "oauth2"). All else is taken for a value.
_WORD = re.compile(r"[A-Za-z._~@-]{1,40}(?:[0-9]{1,2})?(?:\.[A-Za-z]{1,8})?")
_HEX_WORD = re.compile(r"[0-9A-Fa-f-]{16,}")


def method_name(method: str) -> str:
    """The method in capitals; one that HTTP does not know is "(other)"."""
    method = method.upper()
    return method if method in _METHODS else "(other)"


def route_of_path(path: str) -> str:
    """A path with its values taken out: `/orders/17/` -> `/orders/{id}/`."""
    shown = "/".join(_segment(segment) for segment in path.split("/"))
    return shown if len(shown) <= MAX_ROUTE_CHARACTERS else shown[:MAX_ROUTE_CHARACTERS] + "..."


def _segment(segment: str) -> str:
    if not segment:
        return ""
    return segment if _WORD.fullmatch(segment) and not _HEX_WORD.fullmatch(segment) else "{id}"


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
