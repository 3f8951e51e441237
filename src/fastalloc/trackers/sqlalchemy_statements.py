"""What SQLAlchemy executes on a cursor: the statement that an open section has waited for, or else one of its own.

By detours around the methods of dialects that do it (`Dialect.do_execute` and its kin), not by events of the engine: a
listener of those makes every connection ask for those of five other events as well, which cost a page of one query
18 us of 380, looked at or not; all detours together cost it 2 at most.

    dialect's own do_executemany  --super()-->  DefaultDialect's      the outermost of one execution counts
"""

from __future__ import annotations

import functools
from types import FunctionType

from fastalloc.tracebacks import hide_frames
from fastalloc.trackers import queries, sqlalchemy_criteria, sqlalchemy_results
from fastalloc.trackers.sqlalchemy_results import KEPT, WRITES
from fastalloc.trackers.work import apart, current, innermost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from fastalloc.trackers.work import Section, Work

    Replace = Callable[[Any, str, Callable[[Any], Any]], None]

# By name: where the context stands among the arguments after self.
_METHODS = {"do_execute": 3, "do_executemany": 3, "do_execute_no_params": 2}
_STATEMENT = "statement"  # the subject of a section that is opened here

_replace: Replace  # set by install


def install(replace: Replace) -> None:
    """Wrap what executes in all dialects that are loaded, and in others once they connect. replace(class, name of a
    method, what wraps it)."""
    global _replace
    from sqlalchemy import event
    from sqlalchemy.pool import Pool

    _replace = replace
    _wrap_all()
    # Called once per pool, before its dialect executes anything; nothing is asked of it at a request.
    event.listen(Pool, "first_connect", _on_first_connect)


def uninstall() -> None:
    """Look for no more dialects."""
    from sqlalchemy import event
    from sqlalchemy.pool import Pool

    event.remove(Pool, "first_connect", _on_first_connect)


def _on_first_connect(*args: object) -> None:
    queries.breaker.call(_wrap_all)


def _wrap_all() -> None:
    from sqlalchemy.engine.default import DefaultDialect

    for kind in _kinds(DefaultDialect):
        for each in kind.__mro__:  # a mixin may execute, too
            _wrap(each)


def _kinds(kind: type[Any]) -> Iterator[type]:
    yield kind
    for each in kind.__subclasses__():
        yield from _kinds(each)


def _wrap(kind: type) -> None:
    for name, place in _METHODS.items():
        method = kind.__dict__.get(name)
        if type(method) is FunctionType:  # neither wrapped, nor of a kind that we do not know
            _replace(kind, name, functools.partial(_wrapped, place))


def _wrapped(place: int, original: Callable[..., Any]) -> Callable[..., Any]:
    """place: of the context among the arguments."""

    def do_execute(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            work = current()
            context = args[place] if len(args) > place else kwargs.get("context")
            if work is None or context is None or len(args) < 2:
                return original(self, *args, **kwargs)
            section = apart(queries.breaker, _begin, work, args[1], context)
            if section is None:
                return original(self, *args, **kwargs)
            is_ours = section.subject == _STATEMENT
            is_done = False
            try:
                if is_ours:
                    section.enter()
                result = original(self, *args, **kwargs)
                is_done = True
            finally:
                section.is_executing = False
                if is_ours:
                    section.leave()
                if is_done:
                    apart(queries.breaker, _executed, section, args[0], is_ours)
            return result
        except BaseException as error:
            hide_frames(error)
            raise

    return do_execute


def _begin(work: Work, statement: str, context: Any) -> Section | None:
    """The section that waits for the statement, or one of its own. None: it is counted already, by the method of
    the dialect that has called this one."""
    section = innermost()
    if section is not None and section.is_executing:
        return None
    if queries.is_unnamed(section):
        _name(section, statement, context)
    else:
        shape = queries.shape_of(statement)
        section = queries.begin(work, f"{shape.verb} {shape.table}".strip(), _STATEMENT)
        _name(section, statement, context)
    section.is_executing = True
    return section


def name_unseen(section: Section, result: Any) -> None:
    """The statement that has given `result`, which nothing here has seen: a listener to `do_execute` of the program's
    own has executed it."""
    context = getattr(result, "context", None)
    statement = getattr(context, "statement", None)
    if type(statement) is str:
        _name(section, statement, context)


def _name(section: Section, statement: str, context: Any) -> None:
    setattr(context, KEPT, section)
    section.query.shape = queries.shape_of(statement)
    section.query.scopes = sqlalchemy_criteria.names_of(section.work, context)


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
