"""What SQLAlchemy executes on a cursor: the statement that an open section has waited for, or else one of its own.

By wrapping the methods of dialects that do it (`Dialect.do_execute` and its kin), not by events of the engine: a
listener of those makes every connection ask for those of five other events as well, which costs each query of
each request 18 us, looked at or not; a wrapper costs under 1 us.

    dialect's own do_executemany  --super()-->  DefaultDialect's      the outermost of one execution counts
"""

from __future__ import annotations

import functools

from fastalloc.tracebacks import hide_frames
from fastalloc.trackers import queries, sqlalchemy_criteria, sqlalchemy_results
from fastalloc.trackers.sqlalchemy_results import KEPT, WRITES
from fastalloc.trackers.work import apart, current, innermost, is_detour

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from fastalloc.trackers.work import Section, Work

    Replace = Callable[[Any, str, Callable[[Any], Any]], None]

_METHODS = ("do_execute", "do_executemany", "do_execute_no_params")
_STATEMENT = "statement"  # the subject of a section that is opened here
_EXECUTING = "fastalloc_executing"  # attribute of an ExecutionContext


def install(replace: Replace, undo: list[tuple[Any, str, Any]]) -> None:
    """Wrap what executes in all dialects that are loaded, and in others once they connect. replace(class, name of a
    method, what wraps it)."""
    from sqlalchemy.engine.default import DefaultDialect

    for kind in _kinds(DefaultDialect):
        _wrap(kind, replace)
    original = DefaultDialect.initialize

    @functools.wraps(original)
    def initialize(self: Any, *args: Any, **kwargs: Any) -> Any:
        """What a dialect does at its first connection."""
        queries.breaker.call(_wrap_all, type(self).__mro__, replace)
        try:
            return original(self, *args, **kwargs)
        except BaseException as error:
            hide_frames(error)
            raise

    undo.append((DefaultDialect, "initialize", original))
    DefaultDialect.initialize = initialize  # type: ignore[method-assign]


def _kinds(kind: type[Any]) -> Iterator[type]:
    yield kind
    for each in kind.__subclasses__():
        yield from _kinds(each)


def _wrap_all(kinds: tuple[type, ...], replace: Replace) -> None:
    for kind in kinds:
        _wrap(kind, replace)


def _wrap(kind: type, replace: Replace) -> None:
    for name in _METHODS:
        if name in kind.__dict__ and not is_detour(kind.__dict__[name]):
            replace(kind, name, _wrapped_without if name.endswith("no_params") else _wrapped)


def _wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
    def do_execute(
        self: Any, cursor: Any, statement: Any, parameters: Any, context: Any = None
    ) -> Any:
        try:
            work = current()
            if work is None or context is None:
                return original(self, cursor, statement, parameters, context)
            return _execute(work, context, cursor, original, self, cursor, statement, parameters)
        except BaseException as error:
            hide_frames(error)
            raise

    return do_execute


def _wrapped_without(original: Callable[..., Any]) -> Callable[..., Any]:
    def do_execute_no_params(self: Any, cursor: Any, statement: Any, context: Any = None) -> Any:
        try:
            work = current()
            if work is None or context is None:
                return original(self, cursor, statement, context)
            return _execute(work, context, cursor, original, self, cursor, statement)
        except BaseException as error:
            hide_frames(error)
            raise

    return do_execute_no_params


def _execute(
    work: Work, context: Any, cursor: Any, original: Callable[..., Any], *args: Any
) -> Any:
    """original(*args, context), in the section of the statement that is args[2]."""
    if getattr(context, _EXECUTING, False):
        return original(*args, context)
    section: Any = innermost()
    is_ours = not queries.is_unnamed(section)
    if is_ours:
        section = apart(queries.breaker, _begin, work, args[2], context)
    else:
        apart(queries.breaker, _name, section, args[2], context)
    if section is None:
        return original(*args, context)
    if is_ours:
        section.enter()
    setattr(context, _EXECUTING, True)
    is_done = False
    try:
        result = original(*args, context)
        is_done = True
    finally:
        setattr(context, _EXECUTING, False)
        if is_ours:
            section.leave()
        if is_done:
            apart(queries.breaker, _executed, section, cursor, is_ours)
    return result


def _begin(work: Work, statement: str, context: Any) -> Section:
    shape = queries.shape_of(statement)
    section = queries.begin(work, f"{shape.verb} {shape.table}".strip(), _STATEMENT)
    _name(section, statement, context)
    return section


def _name(section: Section, statement: str, context: Any) -> None:
    section.query.shape = queries.shape_of(statement)
    section.query.scopes = sqlalchemy_criteria.names_of(section.work, context)
    setattr(context, KEPT, section)


def _executed(section: Section, cursor: Any, is_ours: bool) -> None:
    shape = section.query.shape
    if shape.verb in WRITES:
        rows = max(getattr(cursor, "rowcount", 0) or 0, shape.row_count, 0)
        section.query.rows += rows
        section.query.rows_are_counted = rows > 0
        section.query.written = sqlalchemy_results.changed
        sqlalchemy_results.changed(section, rows)
    if is_ours:
        queries.end(section)
