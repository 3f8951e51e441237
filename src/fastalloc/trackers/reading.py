"""Rows of a result that are read one by one, after their statement ran.

By a meter: entering and leaving a section for each row would allocate as much as the row. So they count for the query in
digest and dump, and in the recording for the phase around. In a greenlet, where reading a row may let
others run, it is a section after all, suspended between rows.
"""

from __future__ import annotations

import sys

from fastalloc.tracebacks import hide_frames
from fastalloc.trackers import queries
from fastalloc.trackers.work import Section, apart, innermost

try:
    from fastalloc._core import Meter
except ImportError:
    from fastalloc.inactive import Meter  # type: ignore[assignment]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_NO_ROW = object()


class Reading:
    """The rows of one query's result, while they are read: begin() and end() stand around each."""

    __slots__ = ("_meter", "_outer", "_rows", "has_ended", "section")

    def __init__(self, query: Section) -> None:
        self.section = queries.more_of(query)
        self._rows = 0
        self.has_ended = False  # the last time there was no row
        self._outer = innermost()
        self._meter = None if _is_in_greenlet() else Meter()

    def open(self) -> None:
        """Before the first row."""
        if self._meter is None:
            self.section.enter()
            self.section.suspend()

    def begin(self) -> None:
        """What is allocated from here on is the query's."""
        if self._meter is not None:
            self._meter.begin()
        else:
            self.section.resume()

    def end(self) -> None:
        """Up to here."""
        if self._meter is not None:
            self._meter.end()
        else:
            self._rows += 1
            self.section.suspend()

    def close(self) -> None:
        """No more rows are read."""
        section, outer = self.section, self._outer
        if self._meter is None:
            section.leave()
            return
        section.bytes, section.allocations = self._meter.bytes, self._meter.count
        section.within = outer
        if outer is not None:
            outer.nested_bytes += section.bytes
            outer.nested_allocations += section.allocations

    def count(self) -> None:
        """Add it to the query; once it is closed."""
        if not self.section.query.execution.rows_are_counted:
            # Where there is a meter it counts: an integer of ours per row is as large as a short text.
            times = self._rows if self._meter is None else self._meter.times
            self.section.query.rows = max(times - self.has_ended, 0)
        queries.end(self.section)


def one_by_one(query: Section, rows: Iterator[Any]) -> Iterator[Any]:
    """`rows`, which are of the query's result. Some 0.3 us more for each."""
    reading: Reading | None = None
    try:
        reading = apart(queries.breaker, Reading, query)
        if reading is None:
            yield from rows
            return
        reading.open()
        query.reading = reading
        while True:
            reading.begin()
            try:
                row = next(rows, _NO_ROW)
            finally:
                reading.end()
            if row is _NO_ROW:
                reading.has_ended = True
                return
            yield row
    except BaseException as error:
        hide_frames(error)
        raise
    finally:
        if reading is not None:
            query.reading = None
            reading.close()
            apart(queries.breaker, reading.count)


def _is_in_greenlet() -> bool:
    greenlet = sys.modules.get("greenlet")
    return greenlet is not None and greenlet.getcurrent().parent is not None
