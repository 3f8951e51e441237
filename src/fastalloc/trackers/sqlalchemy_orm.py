"""SQLAlchemy, Core and ORM, for the trackers of queries, models and global scopes.

    a lazy relation is loaded               +-- section ------------------------------------+
      Session.execute, scalars, get, ...    |   or here                                     |
        Connection.execute                  |   or here                                     |
          cursor execution (events)         |       --> the statement's shape               |
                                            +-----------------------------------------------+
The outermost that runs opens the section. What is read of the result afterwards is added to it (sqlalchemy_results.py): a
result knows its query by its ExecutionContext, on which we leave it. Works for AsyncSession too, which runs all this in
a greenlet of the task's context.

Laws: as in django_orm.py.
"""

from __future__ import annotations

import functools
import sys

from fastalloc.tracebacks import hide_frames
from fastalloc.trackers import global_scopes, queries, sqlalchemy_results
from fastalloc.trackers.sqlalchemy_results import KEPT, WRITES, label_of_class
from fastalloc.trackers.work import Section, apart, around, bounded_label, current, innermost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fastalloc.trackers.work import Work

_LAZY, _GET, _SESSION, _CONNECTION = ("lazy", "get", "session", "connection")
_CURSOR, _FLUSH = ("cursor", "flush")

_undo: list[tuple[Any, str, Any]] = []
_registries: set[int] = set()


def install() -> None:
    """Wrap what there is to wrap, and listen to all engines; once."""
    if _undo:
        return
    from sqlalchemy import event
    from sqlalchemy.engine import Connection, Engine

    for name, listener in _LISTENERS.items():
        event.listen(Engine, name, listener)
    for name in ("execute", "exec_driver_sql"):
        _replace(Connection, name, _wrapped(_CONNECTION))
    for kind, name, wrap in sqlalchemy_results.wrappers():
        _replace(kind, name, wrap)
    if "sqlalchemy.orm" in sys.modules:
        _install_orm()


def _install_orm() -> None:
    from sqlalchemy.orm import Session, loading, strategies
    from sqlalchemy.orm.util import LoaderCriteriaOption

    lazy = getattr(strategies, "_LazyLoader", None) or getattr(strategies, "LazyLoader", None)
    for owner, name, wrap in (
        (lazy, "_emit_lazyload", _wrapped(_LAZY)),
        (Session, "_execute_internal", _wrapped(_SESSION)),
        (Session, "get", _wrapped(_GET)),
        (Session, "flush", _wrapped(_FLUSH)),
        (loading, "instances", sqlalchemy_results.wrapped_instances),
        # To make the option, and to compile it into a statement that was not compiled before.
        (LoaderCriteriaOption, "__init__", _wrapped_criteria),
        (LoaderCriteriaOption, "process_compile_state", _wrapped_criteria),
        (LoaderCriteriaOption, "_resolve_where_criteria", _wrapped_criteria),
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
        what = f"{label_of_class(owner.parent.class_)}.{owner.key}"
    elif kind == _GET:
        what = label_of_class(args[0] if args else None)
    else:
        of: Any = getattr(args[0] if args else None, "_propagate_attrs", {}).get("plugin_subject")
        what = label_of_class(getattr(of, "class_", None))
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
    setattr(context, KEPT, section)


def _after_execute(
    connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool
) -> None:
    section: Section | None = getattr(context, KEPT, None)
    if section is None:
        return
    is_ours = section.subject == _CURSOR
    if is_ours:
        section.leave()
    apart(queries.breaker, _executed, section, cursor, is_ours)


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


def _on_error(error: Any) -> None:
    section = getattr(error.execution_context, KEPT, None)
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
            name = _name_of_criteria(_class_of(option))
            global_scopes.applied(work, name, ("filter",))
            names.append(name)
    return tuple(names)


def _name_of_criteria(kind: Any) -> str:
    return f"with_loader_criteria({label_of_class(kind)})"


def _class_of(option: Any) -> Any:
    entity = getattr(option, "entity", None)
    return entity.class_ if entity is not None else getattr(option, "root_entity", None)


def _wrapped_criteria(original: Callable[..., Any]) -> Callable[..., Any]:
    """A method of LoaderCriteriaOption: what it allocates is the scope's own."""
    return around(original, global_scopes.breaker, _begin_criteria, _end_criteria)


def _begin_criteria(work: Work, args: tuple[Any, ...]) -> Section | None:
    if not global_scopes.enabled:
        return None
    option, *given = args
    name = _name_of_criteria(_class_of(option) or (given[0] if given else None))
    return Section(work, bounded_label(f"scope {name}"), option)


def _end_criteria(section: Section, result: Any) -> None:
    name = _name_of_criteria(_class_of(section.subject))
    global_scopes.cost(section.work, name, section.bytes + section.nested_bytes)


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
                        sqlalchemy_results.labels_by_table.setdefault(
                            name, label_of_class(mapper.class_)
                        )
            break
