"""SQLAlchemy, Core and ORM, for the trackers of queries, models and global scopes.

    a lazy relation is loaded               +-- section ------------------------------------+
      Session.execute, scalars, get, ...    |   or here                                     |
        Connection.execute                  |   or here                                     |
          cursor execution (events)         |       --> the statement's shape               |
                                            +-----------------------------------------------+
    Result.all, first, one, ...             +-- section: more of the same query ------------+
      a chunk of rows becomes instances     |   or here, where rows are iterated            |
                                            +-----------------------------------------------+

The outermost that runs opens the section. A result knows its query by its ExecutionContext, on which we leave it. Works
for AsyncSession too, which runs all this in a greenlet of the task's context.

Laws: as in django_orm.py.
"""

from __future__ import annotations

import functools
import itertools

from fastalloc.tracebacks import hide_frames
from fastalloc.trackers import global_scopes, models, queries
from fastalloc.trackers.work import Section, apart, current, innermost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from fastalloc.trackers.work import Work

_KEPT = "fastalloc_section"  # attribute of an ExecutionContext
_LAZY, _GET, _SESSION, _CONNECTION = ("lazy", "get", "session", "connection")
_CURSOR, _FLUSH = ("cursor", "flush")
_WRITES = ("INSERT", "REPLACE", "UPDATE", "DELETE")
_ONE = ("fetchone", "first", "one", "one_or_none", "scalar", "scalar_one", "scalar_one_or_none")
_MANY = ("all", "fetchall", "fetchmany")

_undo: list[tuple[Any, str, Any]] = []
_labels_by_table: dict[str, str] = {}
_registries: set[int] = set()


def install() -> None:
    """Wrap what there is to wrap, and listen to all engines; once."""
    if _undo:
        return
    from sqlalchemy import event
    from sqlalchemy.engine import Connection, Engine, result

    for name, listener in _LISTENERS.items():
        event.listen(Engine, name, listener)
    for name in ("execute", "exec_driver_sql"):
        _replace(Connection, name, _wrapped(_CONNECTION))
    for kind in (result.Result, result.ScalarResult, result.MappingResult):
        for name in (*_ONE, *_MANY):
            if name in kind.__dict__:
                _replace(kind, name, _wrapped_read)
    import sys

    if "sqlalchemy.orm" in sys.modules:
        _install_orm()


def _install_orm() -> None:
    from sqlalchemy.orm import Session, loading, strategies

    lazy = getattr(strategies, "_LazyLoader", None) or getattr(strategies, "LazyLoader", None)
    for owner, name, wrap in (
        (lazy, "_emit_lazyload", _wrapped(_LAZY)),
        (Session, "_execute_internal", _wrapped(_SESSION)),
        (Session, "get", _wrapped(_GET)),
        (Session, "flush", _wrapped(_FLUSH)),
        (loading, "instances", _wrapped_instances),
    ):
        if name in getattr(owner, "__dict__", ()):  # else: of another version, and not needed
            _replace(owner, name, wrap)


def uninstall() -> None:
    """Everything as it was."""
    if not _undo:
        return
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    while _undo:
        owner, name, original = _undo.pop()
        setattr(owner, name, original)
    for name, listener in _LISTENERS.items():
        event.remove(Engine, name, listener)


def _replace(owner: Any, name: str, wrap: Callable[[Any], Any]) -> None:
    original = owner.__dict__[name]
    _undo.append((owner, name, original))
    setattr(owner, name, functools.wraps(original)(wrap(original)))


# --- what runs a statement --------------------------------------------------------------------------


def _wrapped(kind: str) -> Callable[[Any], Any]:
    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                work = current()
                section = None
                if work is not None and not _is_covered(kind, kwargs):
                    section = apart(queries.breaker, _begin, work, kind, self, args)
                if section is None:
                    return original(self, *args, **kwargs)
                section.enter()
                try:
                    return original(self, *args, **kwargs)
                finally:
                    section.leave()
                    if section.query is not None:
                        apart(queries.breaker, queries.end, section)
            except BaseException as error:
                hide_frames(error)
                raise

        return method

    return wrap


def _is_covered(kind: str, kwargs: dict[str, Any]) -> bool:
    """Whether an outer section is waiting for the statement that this will run."""
    section = innermost()
    if kind in (_LAZY, _GET, _FLUSH) or not queries.is_unnamed(section):
        return False
    if kind == _SESSION and section.subject == _SESSION:  # a listener runs a query of its own
        return kwargs.get("_parent_execute_state") is not None
    return True


def _begin(work: Work, kind: str, owner: Any, args: tuple[Any, ...]) -> Section | None:
    if kind == _FLUSH:
        if owner._is_clean():  # as at nearly every query: there is nothing to flush
            return None
        _learn_tables(owner)
        return Section(work, "flush", kind)
    if kind == _LAZY:
        what = f"{_label_of_class(owner.parent.class_)}.{owner.key}"
    elif kind == _GET:
        what = _label_of_class(args[0] if args else None)
    else:
        of: Any = getattr(args[0] if args else None, "_propagate_attrs", {}).get("plugin_subject")
        what = _label_of_class(getattr(of, "class_", None))
    return queries.begin(work, what, kind)


def _before_execute(
    connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool
) -> None:
    work = current()
    if work is None or context is None:
        return
    section: Section | None = innermost()
    if queries.is_unnamed(section):
        apart(queries.breaker, _name, section, statement, context)
        return
    section = apart(queries.breaker, _begin_statement, work, statement, context)
    if section is not None:
        section.enter()


def _begin_statement(work: Work, statement: str, context: Any) -> Section:
    shape = queries.shape_of(statement)
    section = queries.begin(work, f"{shape.verb} {shape.table}".strip(), _CURSOR)
    _name(section, statement, context)
    return section


def _name(section: Section, statement: str, context: Any) -> None:
    section.query.shape = queries.shape_of(statement)
    section.query.scopes = _criteria(section.work, context)
    setattr(context, _KEPT, section)


def _after_execute(
    connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool
) -> None:
    section: Section | None = getattr(context, _KEPT, None)
    if section is None:
        return
    is_ours = section.subject == _CURSOR
    if is_ours:
        section.leave()
    apart(queries.breaker, _executed, section, cursor, is_ours)


def _executed(section: Section, cursor: Any, is_ours: bool) -> None:
    shape = section.query.shape
    if shape.verb in _WRITES:
        rows = max(getattr(cursor, "rowcount", 0) or 0, shape.row_count, 0)
        section.query.rows += rows
        if models.enabled:
            label = _labels_by_table.get(shape.table.rpartition(".")[2], shape.table)
            models.breaker.call(models.changed, section.work, label, shape.verb, rows)
    if is_ours:
        queries.end(section)


def _on_error(error: Any) -> None:
    section = getattr(error.execution_context, _KEPT, None)
    if section is not None and section.subject == _CURSOR:
        section.leave()


_LISTENERS: dict[str, Any] = {
    "before_cursor_execute": _before_execute,
    "after_cursor_execute": _after_execute,
    "handle_error": _on_error,
}


def _criteria(work: Work, context: Any) -> tuple[str, ...]:
    """The loader criteria of the statement, as names of global scopes; each is counted as applied."""
    if not global_scopes.enabled:
        return ()
    found = global_scopes.breaker.call(_criteria_of, work, context)
    return found or ()


def _criteria_of(work: Work, context: Any) -> tuple[str, ...]:
    names = []
    for option in getattr(context.invoked_statement, "_with_options", ()):
        if type(option).__name__ == "LoaderCriteriaOption":
            of = option.entity.class_ if option.entity is not None else option.root_entity
            name = f"with_loader_criteria({_label_of_class(of)})"
            global_scopes.applied(work, name, ("filter",))
            names.append(name)
    return tuple(names)


# --- what reads rows --------------------------------------------------------------------------------


def _query_of(result: Any) -> Section | None:
    """The section of the query whose result this is, where that was looked at."""
    for name in ("_real_result", "raw"):  # of a filter; of an ORM result
        inner = getattr(result, name, None)
        if inner is not None:
            result = inner
    return getattr(getattr(result, "context", None), _KEPT, None)


def _is_open_for(section: Section | None, query: Section) -> bool:
    """Whether the section is the query's own, or one in which more of it is read."""
    return section is not None and (section is query or section.subject is query)


def _wrapped_read(original: Callable[..., Any]) -> Callable[..., Any]:
    is_one = original.__name__ in _ONE

    def read(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            query = _query_of(self)
            section = None
            if query is not None and not _is_open_for(innermost(), query):
                section = apart(queries.breaker, queries.more_of, query)
            if section is None:
                return original(self, *args, **kwargs)
            section.enter()
            result = None
            try:
                result = original(self, *args, **kwargs)
            finally:
                section.leave()
                apart(queries.breaker, _end_read, section, result, is_one)
            return result
        except BaseException as error:
            hide_frames(error)
            raise

    return read


def _end_read(section: Section, result: Any, is_one: bool) -> None:
    if not section.query.rows:  # else: the chunks of an ORM result have counted
        section.query.rows = int(result is not None) if is_one else len(result or ())
    queries.end(section)


def _wrapped_instances(original: Callable[..., Any]) -> Callable[..., Any]:
    def instances(cursor: Any, context: Any) -> Any:
        try:
            result = original(cursor, context)
            query = getattr(getattr(cursor, "context", None), _KEPT, None)
            if query is not None:
                joins = bool(getattr(context.compile_state, "eager_joins", None))
                apart(queries.breaker, _watch_chunks, result, query, joins)
            return result
        except BaseException as error:
            hide_frames(error)
            raise

    return instances


def _watch_chunks(result: Any, query: Section, joins: bool) -> None:
    chunks = result.chunks

    def watched(size: Any) -> Iterator[Any]:
        return _chunks(query, iter(chunks(size)), joins)

    result.chunks = watched
    result.iterator = itertools.chain.from_iterable(watched(None))


def _chunks(query: Section, chunks: Iterator[Any], joins: bool) -> Iterator[Any]:
    try:
        while True:
            section = innermost()
            is_ours = not _is_open_for(section, query)
            if is_ours:
                section = apart(queries.breaker, queries.more_of, query)
                if section is not None:
                    section.enter()
            rows = None
            before = section.own_bytes() if section is not None else 0
            try:
                rows = next(chunks, None)
                size = section.own_bytes() - before if section is not None else 0
                if rows is not None and section is not None:
                    apart(models.breaker, _count_instances, section, rows, size, joins)
            finally:
                if is_ours and section is not None:
                    section.leave()
                    apart(queries.breaker, queries.end, section)
            if rows is None:
                return
            yield rows
    except BaseException as error:
        hide_frames(error)
        raise


# --- instances --------------------------------------------------------------------------------------


def _count_instances(section: Section, rows: Any, size: int, joins: bool) -> None:
    section.query.rows += len(rows)
    if not models.enabled or not len(rows):
        return
    for index, example in enumerate(rows[0]) if type(rows[0]) is tuple else ((None, rows[0]),):
        if not hasattr(type(example), "__mapper__"):
            continue
        found = rows if index is None else [row[index] for row in rows]
        unique = list(
            {id(instance): instance for instance in found if instance is not None}.values()
        )
        models.fetched(section.work, _label_of_class(type(example)), unique, size)
        size = 0  # several of one row: the first one is what was asked for
        if joins and unique:
            _count_joined(section.work, unique)


def _count_joined(work: Work, instances: list[Any]) -> None:
    """Related instances that came in the same rows: those of all relations that are loaded by now and are
    not loaded by a query of their own unless told otherwise; one level deep."""
    for relation in type(instances[0]).__mapper__.relationships:
        if relation.lazy in ("selectin", "subquery", "immediate"):
            continue
        related: dict[int, Any] = {}
        for instance in instances:
            value = instance.__dict__.get(relation.key)
            if value is not None:
                some = value if isinstance(value, (list, set, tuple)) else (value,)
                related.update((id(one), one) for one in some)
        if related:
            label = _label_of_class(relation.mapper.class_)
            models.fetched(work, label, list(related.values()), 0)


def _label_of_class(kind: Any) -> str:
    if not hasattr(kind, "__qualname__"):
        return "SQL"
    return f"{kind.__module__}.{kind.__qualname__}"


def _learn_tables(session: Any) -> None:
    """Which class a table is of: for what a flush writes."""
    for pending in (session.new, session.dirty, session.deleted):
        for instance in pending:
            registry = type(instance).__mapper__.registry
            if id(registry) not in _registries:
                _registries.add(id(registry))
                for mapper in registry.mappers:
                    name = getattr(mapper.local_table, "name", None)
                    if name:
                        _labels_by_table.setdefault(name, _label_of_class(mapper.class_))
            break
