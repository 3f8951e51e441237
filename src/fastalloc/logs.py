"""Lines of JSON through `logging.getLogger("fastalloc")`, few of them.

    {"event": "High memory usage", "route": "GET /orders/{id}/", "phase": "view", ...}

Where the program has not configured logging, Python itself prints warnings to stderr, and where it has not
even imported it, we do. So there is no NullHandler: what says that memory runs out must not be lost for want
of a configuration.

Called in the watcher's thread only: handlers belong to the program, and may be slow.
"""

from __future__ import annotations

import os
import sys
from time import monotonic

WARNING = 30  # as in logging


class Limit:
    """At most one line per key and `seconds`, and `at_most` lines a minute. Counts what it holds back."""

    __slots__ = ("_at_most", "_due", "_said", "_seconds", "_until", "held_back")

    def __init__(self, seconds: float, at_most: int) -> None:
        self._seconds, self._at_most = seconds, at_most
        self._due: dict[str, float] = {}
        self._said = 0
        self._until = 0.0
        self.held_back = 0

    def allows(self, key: str) -> bool:
        """Whether a line about `key` may be said now; else it is counted in `held_back`."""
        now = monotonic()
        if now >= self._until:
            self._until, self._said = now + 60.0, 0
        if self._said >= self._at_most or now < self._due.get(key, 0.0):
            self.held_back += 1
            return False
        if len(self._due) >= 1000:
            self._due.clear()
        self._said += 1
        self._due[key] = now + self._seconds
        return True


def tell(event: str, fields: dict[str, object], level: int = WARNING) -> None:
    """Log one line. Whatever a handler raises is logging's own affair."""
    line = to_json({"event": event, "pid": os.getpid(), **fields})
    logging = sys.modules.get("logging")
    if logging is not None:
        logging.getLogger("fastalloc").log(level, "%s", line)
    elif level >= WARNING and sys.stderr is not None:
        sys.stderr.write(line + "\n")


def to_json(value: object) -> str:
    """JSON of dicts, lists, texts, numbers and None; of all else, its text. For what is said at start and
    from the watcher: the json module would take 3 ms of the start, and what is imported later changes
    sys.modules while the program may be walking through it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{to_json(str(k))}: {to_json(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(to_json, value)) + "]"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value) if value - value == 0 else "null"  # JSON knows no infinity
    return quote(str(value))


def quote(text: str) -> str:
    """A text as JSON, all ASCII. Nearly all are plain, and for those json's C library need not be loaded."""
    if text.isascii() and text.isprintable():
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    from _json import encode_basestring_ascii

    return encode_basestring_ascii(text)
