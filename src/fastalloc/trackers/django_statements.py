"""Django's statements: those that its compiler makes, and those of raw cursors.

What has no query set around it (insert, delete, ...) is a section of `execute_sql`; a raw cursor's statement is one of
the execute wrapper, which Django calls around every statement, with what is read of its result added: any
statement's that has one, whatever its verb.
"""

from __future__ import annotations

import operator

from fastalloc.tracebacks import hide_frames
from fastalloc.trackers import global_scopes, models, queries
from fastalloc.trackers.reading import one_by_one, reading_of_calls
from fastalloc.trackers.work import Section, apart, current, detour, innermost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from fastalloc.trackers.work import Work

_KEPT = "fastalloc_section"  # attribute of a cursor whose result is to be read
_WRITES = ("INSERT", "REPLACE", "UPDATE", "DELETE")
_NO_QUERIES = ("BEGIN", "START", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")


def watch_connections() -> None:
    """Be called around the statements of this thread's connections, and of all that are made."""
    from django.db import connections
    from django.db.backends.signals import connection_created

    connection_created.connect(_on_connection, dispatch_uid="fastalloc")
    for connection in connections.all(initialized_only=True):
        _watch(connection)


def unwatch_connections() -> None:
    """The opposite; but for connections that are open in other threads."""
    from django.db import connections
    from django.db.backends.signals import connection_created

    connection_created.disconnect(dispatch_uid="fastalloc")
    for connection in connections.all(initialized_only=True):
        if execute_wrapper in connection.execute_wrappers:
            connection.execute_wrappers.remove(execute_wrapper)


def _on_connection(connection: Any, **kwargs: object) -> None:
    queries.breaker.call(_watch, connection)


def _watch(connection: Any) -> None:
    if execute_wrapper not in connection.execute_wrappers:
        connection.execute_wrappers.append(execute_wrapper)


def wrapped_execute_sql(original: Callable[..., Any]) -> Callable[..., Any]:
    """`SQLCompiler.execute_sql`, in a section where none is open."""

    def execute_sql(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            work = current()
            if work is None:
                return original(self, *args, **kwargs)
            if execute_wrapper not in self.connection.execute_wrappers:  # opened before we came
                queries.breaker.call(_watch, self.connection)
            section = innermost()
            if section is not None and queries.is_unnamed(section):
                # The query set's, or that of execute_sql of a derived compiler.
                result = original(self, *args, **kwargs)
                if section.fetched_bytes is None:
                    section.fetched_bytes = section.own_bytes()
                return result
            section = apart(queries.breaker, _begin_compiled, work, self)
            if section is None:
                return original(self, *args, **kwargs)
            section.enter()
            result = None
            try:
                result = original(self, *args, **kwargs)
            finally:
                section.leave()
                apart(queries.breaker, _end_compiled, section, result)
            return result
        except BaseException as error:
            hide_frames(error)
            raise

    return detour(original, execute_sql)


def _begin_compiled(work: Work, compiler: Any) -> Section:
    model = getattr(compiler.query, "model", None)
    what = model._meta.label if model is not None else type(compiler.query).__name__
    return queries.begin(work, what, compiler.query)


def _end_compiled(section: Section, result: Any) -> None:
    if section.query.rows == 0:
        if type(result) is list:
            section.query.rows = sum(map(len, result))
        elif type(result) is tuple:
            section.query.rows = 1
    section.query.scopes = global_scopes.names_of(section.subject)
    queries.end(section)


def execute_wrapper(
    execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]
) -> Any:
    """What Django calls around each statement (`connection.execute_wrappers`)."""
    try:
        work = current()
        if work is None:
            return execute(sql, params, many, context)
        section = innermost()
        if not queries.is_unnamed(section):
            if type(sql) is str and sql.startswith(_NO_QUERIES):
                return execute(sql, params, many, context)
            section = apart(queries.breaker, _begin_raw, work, sql)
            if section is None:
                return execute(sql, params, many, context)
            section.enter()
            try:
                result = execute(sql, params, many, context)
            finally:
                section.leave()
                apart(queries.breaker, _end_raw, section, sql, params, many, context)
            return result
        try:
            return execute(sql, params, many, context)
        finally:
            apart(queries.breaker, _name, section, sql, params, many, context)
    except BaseException as error:
        hide_frames(error)
        raise


def _name(section: Section, sql: Any, params: Any, many: bool, context: dict[str, Any]) -> None:
    """The section's statement is known now, and was executed."""
    shape = section.query.shape = queries.shape_of(sql)
    if shape.verb not in _WRITES:
        return
    rows = getattr(context["cursor"], "rowcount", -1)
    if many and rows is not None and rows < 0:
        rows = len(params) if hasattr(params, "__len__") else 0
    if shape.row_count > max(rows or 0, 0):
        rows = shape.row_count  # INSERT ... RETURNING: the driver counts rows as they are read
    section.query.rows = rows = max(rows or 0, 0)
    section.query.rows_are_counted = rows > 0
    section.query.written = _changed
    _changed(section, rows)


def _changed(section: Section, rows: int) -> None:
    if models.enabled:
        shape = section.query.shape
        models.breaker.call(
            models.changed, section.work, _label_of_table(shape.table), shape.verb, rows
        )


_labels_by_table: dict[str, str] = {}


def _label_of_table(table: str) -> str:
    if not _labels_by_table:
        from django.apps import apps

        for model in apps.get_models(include_auto_created=True):
            _labels_by_table.setdefault(model._meta.db_table.strip('"'), model._meta.label)
    return _labels_by_table.get(table, table)


_call: Callable[..., Any] = operator.call
execute_wrapper = detour(_call, execute_wrapper, like=execute_wrapper)


# --- raw cursors ----------------------------------------------------------------------------------


def _begin_raw(work: Work, sql: Any) -> Section:
    shape = queries.shape_of(sql)
    return queries.begin(work, f"{shape.verb} {shape.table}".strip())


def _end_raw(section: Section, sql: Any, params: Any, many: bool, context: dict[str, Any]) -> None:
    _name(section, sql, params, many, context)
    queries.end(section)
    cursor = context["cursor"]
    if not hasattr(cursor, "__dict__"):
        return
    has_result = getattr(cursor, "description", None) is not None
    cursor.__dict__[_KEPT] = section if has_result else None
    for name in ("fetchone", "fetchmany", "fetchall"):
        if has_result:
            cursor.__dict__[name] = _Fetch(cursor, name, section)
        else:
            cursor.__dict__.pop(name, None)


class _Fetch:
    """A fetch method of one cursor, in the place of the class's: what it reads is added to the
    cursor's query."""

    __slots__ = ("_cursor", "_name", "_section")

    def __init__(self, cursor: Any, name: str, section: Section) -> None:
        self._cursor, self._name, self._section = cursor, name, section

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            # What it stands in for is made by the class's __getattr__.
            original = type(self._cursor).__getattr__(self._cursor, self._name)
            of_query = self._section
            if current() is not of_query.work:
                return original(*args, **kwargs)
            if self._name == "fetchone":
                reading = reading_of_calls(of_query)
                if reading is not None:
                    return reading.call(original)
            section = apart(queries.breaker, queries.more_of, of_query)
            if section is None:
                return original(*args, **kwargs)
            section.enter()
            result = None
            try:
                result = original(*args, **kwargs)
            finally:
                section.leave()
                apart(queries.breaker, _end_fetch, section, result)
            return result
        except BaseException as error:
            hide_frames(error)
            raise


def _end_fetch(section: Section, result: Any) -> None:
    rows = len(result) if type(result) is list else int(result is not None)
    queries.count_rows(section, rows)
    queries.end(section)


def wrapped_cursor_iter(original: Callable[[Any], Iterator[Any]]) -> Callable[[Any], Any]:
    """`CursorWrapper.__iter__`: what it reads is added to the cursor's query."""

    def __iter__(self: Any) -> Any:
        section = self.__dict__.get(_KEPT)
        if section is None or current() is not section.work:
            return original(self)
        return one_by_one(section, iter(original(self)))

    return detour(original, __iter__, anywhere=True)
