"""Rows of a result that are read one by one, after their statement ran.

By a meter: entering and leaving a section for each row would allocate as much as the row. So they count for the query in
digest and dump, and in the recording for the phase around. A coroutine is measured step by step. In a greenlet, where
reading a row may let others run, it is a section after all, suspended between rows; what suspending and going on
allocate is measured first, and taken off.
"""

from __future__ import annotations

import sys

from fastalloc._core import Meter
from fastalloc.tracebacks import hide_frames
from fastalloc.trackers import queries
from fastalloc.trackers.work import Section, apart, innermost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
    from typing import Any

MAX_READINGS = 100  # results that one request is reading by calls for one row each
_NO_ROW = object()


class Reading:
    """The rows of one query's result, while they are read: begin() and end() stand around each."""

    __slots__ = (
        *("_is_paused", "_meter", "_of_a_step", "_outer", "_times", "is_of_calls", "rows"),
        "section",
    )

    def __init__(self, query: Section) -> None:
        self.section = queries.more_of(query)
        self._times = 0
        self._outer = innermost()
        self._meter = None if _is_in_greenlet() else Meter()
        self._is_paused = False
        self._of_a_step = (0, 0)  # allocations and bytes of being suspended once
        self.rows: int | None = None  # None: as many as end() was called
        self.is_of_calls = False

    @property
    def times(self) -> int:
        """How often end() was called. Where there is a meter it counts: an integer of ours per row
        would be as large as a short text."""
        return self._times if self._meter is None else self._meter.times

    def open(self) -> None:
        """Before the first row."""
        if self._meter is None:
            section = self.section
            section.enter()
            section.suspend()
            before = section.own_totals()
            section.resume()
            section.suspend()
            after = section.own_totals()
            self._of_a_step = (after[0] - before[0], after[1] - before[1])

    def begin(self) -> None:
        """What is allocated from here on is the query's."""
        if self._is_paused:
            return
        if self._meter is not None:
            self._meter.begin()
        else:
            self.section.resume()

    def end(self) -> None:
        """Up to here."""
        if self._is_paused:
            return
        if self._meter is not None:
            self._meter.end()
        else:
            self._times += 1
            self.section.suspend()

    def pause(self) -> None:
        """What comes now is measured by whoever calls this, however often it begins and ends."""
        self.end()
        self._is_paused = True

    def go_on(self) -> None:
        """Measure again."""
        self._is_paused = False
        self.begin()

    def call(self, fetch: Callable[..., Any], *args: Any) -> Any:
        """fetch(*args), which gives one row, or none at the end."""
        self.begin()
        row = None
        try:
            row = fetch(*args)
        finally:
            self.end()
            if row is None:
                apart(queries.breaker, self._end_of_calls)
        return row

    def _end_of_calls(self) -> None:
        if self in self.section.work.readings:  # else: its request is over
            self.section.work.readings.remove(self)
        self.rows = max(self.times - 1, 0)
        self.close()

    def close(self) -> None:
        """No more rows are read: the query gets what was measured."""
        self.section.subject.reading = None  # type: ignore[attr-defined]
        self.leave()
        apart(queries.breaker, self.count)

    def leave(self) -> None:
        """Measure no more; in any case, so not under a breaker."""
        section, outer = self.section, self._outer
        if self._meter is None:
            section.leave()
            allocations, size = self._of_a_step
            steps = self._times + 1
            section.allocations = max(section.allocations - allocations * steps, 0)
            section.bytes = max(section.bytes - size * steps, 0)
            return
        section.bytes, section.allocations = self._meter.bytes, self._meter.count
        section.within = outer
        if outer is not None:
            outer.nested_bytes += section.bytes
            outer.nested_allocations += section.allocations

    def count(self) -> None:
        """Add it to the query, once it was left."""
        queries.count_rows(self.section, self.times if self.rows is None else self.rows)
        queries.end(self.section)


def one_by_one(query: Section, rows: Iterator[Any]) -> Iterator[Any]:
    """`rows`, which are of the query's result. Some 0.3 us more for each."""
    reading: Reading | None = None
    has_ended = False
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
                has_ended = True
                return
            yield row
    except BaseException as error:
        hide_frames(error)
        raise
    finally:
        if reading is not None:
            if has_ended:
                reading.rows = max(reading.times - 1, 0)
            reading.close()


async def one_by_one_async(
    query: Section, next_row: Callable[[], Awaitable[Any]]
) -> AsyncIterator[Any]:
    """Likewise of what next_row() gives until it raises StopAsyncIteration."""
    reading: Reading | None = None
    rows = 0
    try:
        reading = apart(queries.breaker, Reading, query)
        if reading is not None:
            reading.open()
            query.reading = reading
        while True:
            try:
                row = await (next_row() if reading is None else _Measured(next_row(), reading))
            except StopAsyncIteration:
                return
            rows += 1
            yield row
    except BaseException as error:
        hide_frames(error)
        raise
    finally:
        if reading is not None:
            reading.rows = rows
            reading.close()


def reading_of_calls(query: Section) -> Reading | None:
    """The reading of a result by a call for each row. None, and then a section will do: at the first such
    call, since most results see no other; in a greenlet; where there are too many."""
    known: Reading | None = query.reading
    if known is not None:
        return known if known.is_of_calls else None
    return apart(queries.breaker, _reading_of_calls, query)  # type: ignore[no-any-return]


def _reading_of_calls(query: Section) -> Reading | None:
    of_request = query.work.readings
    query.rows_asked_for += 1
    if query.rows_asked_for == 1 or len(of_request) >= MAX_READINGS or _is_in_greenlet():
        return None
    reading = query.reading = Reading(query)
    reading.is_of_calls = True
    of_request.append(reading)
    return reading


class _Measured:
    """An awaitable whose steps are parts of a reading; other tasks run between them."""

    __slots__ = ("_awaitable", "_reading")

    def __init__(self, awaitable: Awaitable[Any], reading: Reading) -> None:
        self._awaitable, self._reading = awaitable, reading

    def __await__(self) -> Generator[Any, Any, Any]:
        reading = self._reading
        steps: Any = self._awaitable.__await__()
        step, value = steps.send, None
        while True:
            reading.begin()
            try:
                awaited = step(value)
            except StopIteration as done:
                return done.value
            finally:
                reading.end()
            try:
                step, value = steps.send, (yield awaited)
            except BaseException as error:  # to be raised in there: a cancellation
                step, value = steps.throw, error


def _is_in_greenlet() -> bool:
    greenlet = sys.modules.get("greenlet")
    return greenlet is not None and greenlet.getcurrent().parent is not None
