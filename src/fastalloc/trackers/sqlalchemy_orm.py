"""SQLAlchemy, Core and ORM, for the trackers of queries, models and global scopes.

    a lazy relation is loaded               +-- section ------------------------------------+
      Session.execute, scalars, get, ...    |   or here                                     |
        Connection.execute                  |   or here                                     |
          Dialect.do_execute, ...           |   or here --> the statement's shape           |
                                            +-----------------------------------------------+
The outermost that runs opens the section; the innermost is sqlalchemy_statements.py's. What is read of the result
afterwards is added to it (sqlalchemy_results.py): a result knows its query by its ExecutionContext, on which we
leave it. Works for AsyncSession too, which runs all this in a greenlet of the task's context.

Laws: as in django_orm.py.
"""

from __future__ import annotations

import sys

from fastalloc.tracebacks import hide_frames
from fastalloc.trackers import (
    queries,
    sqlalchemy_criteria,
    sqlalchemy_results,
    sqlalchemy_statements,
)
from fastalloc.trackers.replaced import Replaced
from fastalloc.trackers.sqlalchemy_results import label_of_class
from fastalloc.trackers.work import Section, apart, current, detour, innermost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fastalloc.trackers.work import Work

_LAZY, _GET, _SESSION, _CONNECTION, _FLUSH = ("lazy", "get", "session", "connection", "flush")

_replaced = Replaced()
_registries: set[int] = set()


def install() -> None:
    """Wrap what there is to wrap, once."""
    if _replaced:
        return
    from sqlalchemy.engine import Connection

    sqlalchemy_statements.install(_replace)
    for name in ("execute", "exec_driver_sql"):
        _replace(Connection, name, _wrapped(_CONNECTION))
    for kind, name, wrap in sqlalchemy_results.wrappers():
        _replace(kind, name, wrap, anywhere=True)
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
        # Not flush: it is called at nearly every query, and there is seldom anything to flush.
        (Session, "_flush", _wrapped(_FLUSH)),
        # To make the option, and to compile it into a statement that was not compiled before.
        (LoaderCriteriaOption, "__init__", sqlalchemy_criteria.wrapped),
        (LoaderCriteriaOption, "process_compile_state", sqlalchemy_criteria.wrapped),
        (LoaderCriteriaOption, "_resolve_where_criteria", sqlalchemy_criteria.wrapped),
    ):
        if name in getattr(owner, "__dict__", ()):  # else: of another version, and not needed
            _replace(owner, name, wrap)
    _replace(loading, "instances", sqlalchemy_results.wrapped_instances, anywhere=True)


def uninstall() -> None:
    """Everything as it was."""
    if _replaced:
        sqlalchemy_statements.uninstall()
    _replaced.restore()


def _replace(owner: Any, name: str, wrap: Callable[[Any], Any], *, anywhere: bool = False) -> None:
    """anywhere: a result may be read in another context than that of its request."""
    original = owner.__dict__[name]
    _replaced.put(owner, name, detour(original, wrap(original), anywhere=anywhere))


# --- what runs a statement --------------------------------------------------------------------------


def _wrapped(kind: str) -> Callable[[Any], Any]:
    def wrap(method_itself: Callable[..., Any]) -> Callable[..., Any]:
        original = _naming(method_itself) if kind == _CONNECTION else method_itself

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


def _naming(original: Callable[..., Any]) -> Callable[..., Any]:
    """A method of a connection; afterwards, where a section still waits for its statement, that is taken from the result."""

    def execute(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        section = innermost()
        if queries.is_unnamed(section):
            apart(queries.breaker, sqlalchemy_statements.name_unseen, section, result)
        return result

    return execute


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
