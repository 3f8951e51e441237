"""Queries: which statements a request ran from which line, how often, and what they allocated.

A query's bytes are those allocated by executing it, reading its rows and making objects of them, in
whatever order its framework does that: the framework's part (django_orm.py, sqlalchemy_orm.py) says when. Statements come
without values (statements.py).
"""

from __future__ import annotations

from fastalloc.breaker import Breaker
from fastalloc.trackers import global_scopes, places, work
from fastalloc.trackers.statements import Shape, shape_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeGuard

    from fastalloc.trackers.work import Section, Work

NAME = "queries"
MAX_PER_REQUEST = 200
MAX_PER_PROCESS = 400
REPEATS_FROM = 5  # a query that one request runs so often from one line is named as a repeat
LARGE_ROWS = 1000  # one result as large as either is named
LARGE_BYTES = 1 << 20
DIGEST_ROWS, DUMP_ROWS = 5, 40
DIGEST_STATEMENT = 240

breaker = Breaker("tracker queries")
enabled = True


class Query:
    """One statement from one line, in one request or in all of the process."""

    __slots__ = (
        *(
            "allocations",
            "at",
            "bytes",
            "count",
            "largest_bytes",
            "largest_rows",
            "most",
            "most_route",
        ),
        *("requests", "rows", "seconds", "statement"),
    )

    def __init__(self, statement: str, at: str) -> None:
        self.statement, self.at = statement, at
        self.count = self.rows = self.bytes = self.allocations = 0
        self.largest_rows = self.largest_bytes = 0  # of one execution
        self.seconds = 0.0
        self.requests = self.most = 0  # requests that ran it; the most often that one did
        self.most_route = ""

    def add(self, other: Query, route: str) -> None:
        """Another request's."""
        for name in ("count", "rows", "bytes", "allocations", "seconds"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("largest_rows", "largest_bytes"):
            setattr(self, name, max(getattr(self, name), getattr(other, name)))
        self.requests += 1
        if other.count > self.most:
            self.most, self.most_route = other.count, route

    def to_dict(self, statement_length: int = 500) -> dict[str, Any]:
        """Fit for JSON; without what only a process's table knows where it is one request's."""
        told: dict[str, Any] = {
            "statement": self.statement[:statement_length],
            "at": self.at,
            "count": self.count,
            "rows": self.rows,
            "bytes": self.bytes,
            "allocations": self.allocations,
            "seconds": round(self.seconds, 6),
            "largest_rows": self.largest_rows,
            "largest_bytes": self.largest_bytes,
        }
        if self.requests:
            told |= {
                "requests": self.requests,
                "most_in_one_request": self.most,
                "most_in": self.most_route,
            }
        return told


class Queries:
    """A table of queries with an end."""

    __slots__ = ("_capacity", "by_key", "not_kept")

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self.by_key: dict[tuple[str, str], Query] = {}
        self.not_kept = 0  # executions of queries that found the table full

    def get(self, statement: str, at: str) -> Query | None:
        """The entry, made where there is room."""
        found = self.by_key.get((statement, at))
        if found is None and len(self.by_key) < self._capacity:
            found = self.by_key[statement, at] = Query(statement, at)
        return found

    def to_dict(self, rows: int, statement_length: int = 500) -> dict[str, Any]:
        """Totals, the `rows` entries of most bytes, the repeats and the largest results among all."""
        queries = sorted(self.by_key.values(), key=lambda query: -query.bytes)
        repeats = [q for q in queries if max(q.most, 0 if q.requests else q.count) >= REPEATS_FROM]
        large = [q for q in queries if _is_large(q)]
        large.sort(key=lambda query: -query.largest_bytes)
        return {
            "count": sum(query.count for query in queries) + self.not_kept,
            "rows": sum(query.rows for query in queries),
            "bytes": sum(query.bytes for query in queries),
            "seconds": round(sum(query.seconds for query in queries), 6),
            "statements": [query.to_dict(statement_length) for query in queries[:rows]],
            "repeats": [query.to_dict(statement_length) for query in repeats[:rows]],
            "large_results": [query.to_dict(statement_length) for query in large[:rows]],
            "not_kept": self.not_kept,
        }


def _is_large(query: Query) -> bool:
    return query.largest_rows >= LARGE_ROWS or query.largest_bytes >= LARGE_BYTES


_process = Queries(MAX_PER_PROCESS)


# --- a query begins, is named, ends: called by the frameworks' parts, under `apart` ---------------


def begin(current: Work, what: str, subject: object = None) -> Section:
    """A section for a query whose statement is not known yet. what: a model's label or a table."""
    at = places.place(2)
    of(current)
    section = work.Section(current, label_of(what, at), subject)
    section.query = Pending(at)
    return section


def more_of(query: Section) -> Section:
    """A section in which more rows of a query are read, whose own section is over."""
    section = work.Section(query.work, query.label, query)
    section.query = Pending(query.query.at, query.query.shape, query.query)
    section.query.scopes = query.query.scopes
    return section


def label_of(what: str, at: str) -> str:
    """The name that the query has as a phase of the recording."""
    where = f" at {places.short(at)}" if at else ""
    return work.bounded_label(f"query {what}{where}")


class Pending:
    """A query whose section is open: what will be added to its entry at the end. executions: 1, or 0
    where more rows of one that is counted are read: `execution`. all_*: of an execution and of what
    was read of it since. rows_are_counted: by the statement itself or by whoever makes objects of them;
    who reads them does not. written: of a write that counted none, to be told of the rows that it
    returns. scopes: names of the global scopes that it went through."""

    __slots__ = (
        *("_first", "all_bytes", "all_rows", "at", "executions", "rows", "rows_are_counted"),
        *("scopes", "shape", "written"),
    )

    def __init__(
        self, at: str, shape: Shape | None = None, execution: Pending | None = None
    ) -> None:
        self.at = at
        self.shape = shape
        self._first = execution
        self.executions = int(execution is None)
        self.rows_are_counted = False
        self.written: Callable[[Section, int], None] | None = None
        self.rows = self.all_rows = self.all_bytes = 0
        self.scopes: tuple[str, ...] = ()

    @property
    def execution(self) -> Pending:
        """The one whose rows these are: itself, unless it reads more of another."""
        return self if self._first is None else self._first


def is_unnamed(section: Section | None) -> TypeGuard[Section]:
    """Whether the section waits for its statement."""
    return section is not None and section.query is not None and section.query.shape is None


def count_rows(section: Section, rows: int) -> None:
    """So many rows were read in a section made by more_of."""
    execution = section.query.execution
    if execution.rows_are_counted:
        return
    section.query.rows = rows
    if rows and execution.written is not None:
        execution.written(section, rows)


def end(section: Section) -> None:
    """Count the section, which has been left, for its query."""
    pending = section.query
    if pending.shape is None:  # nothing was executed: no rows can match, or it failed before
        return
    execution = pending.execution
    execution.all_rows += pending.rows
    execution.all_bytes += section.bytes
    _add(section, pending, execution)
    for name in pending.scopes:
        global_scopes.breaker.call(
            global_scopes.count, section, name, pending.rows, pending.executions
        )


def _add(section: Section, pending: Pending, execution: Pending) -> None:
    table = of(section.work)
    query = table.get(pending.shape.text, pending.at)  # type: ignore[union-attr]
    if query is None:
        table.not_kept += pending.executions
        return
    query.count += pending.executions
    query.rows += pending.rows
    query.bytes += section.bytes
    query.allocations += section.allocations
    query.seconds += section.seconds
    query.largest_rows = max(query.largest_rows, execution.all_rows)
    query.largest_bytes = max(query.largest_bytes, execution.all_bytes)


def of(current: Work) -> Queries:
    """The request's table."""
    found = current.notes.get(NAME)
    if found is None:
        found = current.notes[NAME] = Queries(MAX_PER_REQUEST)
    return found


# --- what is told ---------------------------------------------------------------------------------


def finish(current: Work) -> dict[str, Any] | None:
    """The request is over: into the process's table, and a digest for the request. None: no queries."""
    table: Queries | None = current.notes.get(NAME)
    if table is None:
        return None
    while current.readings:  # results that were not read to their end
        reading = current.readings.pop()
        reading.leave()
        reading.count()
    _process.not_kept += table.not_kept
    for (statement, at), query in table.by_key.items():
        entry = _process.get(statement, at)
        if entry is None:
            _process.not_kept += query.count
        else:
            entry.add(query, current.request.route)
    return table.to_dict(DIGEST_ROWS, DIGEST_STATEMENT)


def section() -> dict[str, Any]:
    """The dump's part: all requests that were looked at, and those that run."""
    told = _process.to_dict(DUMP_ROWS)
    told["running"] = [_running(current) for current in work.running() if NAME in current.notes]
    return told


def _running(current: Work) -> dict[str, Any]:
    return {
        "route": current.request.route,
        "open": [{"query": s.label, "bytes": s.own_bytes()} for s in tuple(current.sections)],
        **current.notes[NAME].to_dict(DIGEST_ROWS),
    }


def reset() -> None:
    """Forget all: a forked child's table is its own."""
    _process.by_key.clear()
    _process.not_kept = 0


__all__ = ["NAME", "Queries", "Query", "begin", "end", "finish", "section", "shape_of"]
