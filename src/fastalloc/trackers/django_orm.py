"""Django's ORM for the trackers of queries, models and global scopes.

    QuerySet.get, first, count, ...      +-- section -------------------------------------------+
      QuerySet._fetch_all                |    or here, where rows are asked for                 |
        an iterable class                |    or here, for .iterator(): rows one by one         |
          SQLCompiler.execute_sql        |    or here, for what has no rows: insert, update ... |
            compile, execute, read rows  |      --> fetched_bytes                               |
            (an execute wrapper)         |      --> the statement's shape                       |
          from_db: instances of the rows |                                                      |
                                         +------------------------------------------------------+

The outermost of these that runs opens the section, the inner ones add what they know to it. Statements are in
django_statements.py.

Laws: whatever is wrapped calls what it wraps once, with the same arguments, and gives back what that gave.
Our frames are taken out of tracebacks.
"""

from __future__ import annotations

from fastalloc._core import Meter
from fastalloc.tracebacks import hide_frames
from fastalloc.trackers import admin, django_statements, global_scopes, models, queries
from fastalloc.trackers.replaced import Replaced
from fastalloc.trackers.work import Section, apart, around, current, detour, innermost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from fastalloc.trackers.work import Work

_NO_ROW = object()
_replaced = Replaced()


def install() -> None:
    """Wrap what there is to wrap; once. Needs Django to be set up."""
    if _replaced:
        return
    from django.db.backends import utils
    from django.db.models import query
    from django.db.models.fields import related_descriptors
    from django.db.models.sql import compiler

    for name in ("get", "first", "last", "count", "exists", "aggregate", "update"):
        original = getattr(query.QuerySet, name)
        _replaced.put(query.QuerySet, name, _wrapped_method(original))
    relation = related_descriptors.ForwardManyToOneDescriptor
    _replaced.put(relation, "get_object", _wrapped_method(relation.get_object))
    _replaced.put(query.QuerySet, "_fetch_all", _wrapped_fetch_all(query.QuerySet._fetch_all))
    for name in (
        *("ModelIterable", "RawModelIterable", "ValuesIterable", "ValuesListIterable"),
        *("NamedValuesListIterable", "FlatValuesListIterable"),
    ):
        iterable = getattr(query, name)
        _replaced.put(iterable, "__iter__", _wrapped_iter(iterable.__iter__, name))
    cursor = utils.CursorWrapper
    _replaced.put(cursor, "__iter__", django_statements.wrapped_cursor_iter(cursor.__iter__))
    for name in ("SQLCompiler", "SQLInsertCompiler"):
        kind = getattr(compiler, name)
        _replaced.put(kind, "execute_sql", django_statements.wrapped_execute_sql(kind.execute_sql))
    django_statements.watch_connections()


def uninstall() -> None:
    """Everything as it was, but for connections that are open in other threads."""
    if not _replaced:
        return
    _replaced.restore()
    django_statements.unwatch_connections()


# --- query sets -----------------------------------------------------------------------------------


def _wrapped_method(original: Callable[..., Any]) -> Callable[..., Any]:
    """Of what builds a query and runs it at once."""
    return around(original, queries.breaker, _begin_method, _end_method)


def _begin_method(work: Work, args: tuple[Any, ...]) -> Section | None:
    return None if queries.is_unnamed(innermost()) else _begin(work, args[0])


def _end_method(section: Section, result: Any) -> None:
    queries.end(section)


def _begin(work: Work, owner: Any) -> Section:
    """A section for a query of the model of a query set, or that a relation leads to."""
    model = owner.field.remote_field.model if hasattr(owner, "field") else owner.model
    return queries.begin(work, model._meta.label, model)


def _wrapped_fetch_all(original: Callable[[Any], None]) -> Callable[[Any], None]:
    def _fetch_all(self: Any) -> None:
        try:
            work = current() if _has_work(self) else None
            if work is None:
                return original(self)
            section, is_ours = innermost(), False
            if not queries.is_unnamed(section) or section.subject is not self.model:
                section, is_ours = apart(queries.breaker, _begin, work, self), True
            if section is None:
                return original(self)
            if is_ours:
                section.enter()
            before = self._result_cache
            section.query_set = self
            try:
                original(self)
                apart(queries.breaker, _fetched, section, self, before, section.own_bytes())
            finally:
                if is_ours:
                    section.leave()
                    apart(queries.breaker, queries.end, section)
        except BaseException as error:
            hide_frames(error)
            raise

    return detour(original, _fetch_all)


def _has_work(query_set: Any) -> bool:
    """Whether fetching will do anything."""
    cache = query_set._result_cache
    return cache is None or (query_set._prefetch_related_lookups and not query_set._prefetch_done)


def _fetched(section: Section, query_set: Any, before: list[Any] | None, own_bytes: int) -> None:
    rows = query_set._result_cache
    if before is not None or section.query.shape is None:  # only prefetches were missing
        return
    section.query.rows = len(rows)
    if admin.enabled:
        admin.breaker.call(admin.fetched, section, query_set, own_bytes)
    section.query.scopes = global_scopes.names_of(query_set.query)
    if models.enabled and rows and query_set._iterable_class.__name__ == "ModelIterable":
        hydrated = max(own_bytes - (section.fetched_bytes or 0), 0)
        models.breaker.call(_count_instances, section, query_set, rows, hydrated)


def _count_instances(section: Section, query_set: Any, rows: list[Any], hydrated: int) -> None:
    models.fetched(section.work, query_set.model._meta.label, rows, hydrated)
    for path in _related_paths(query_set.query.select_related, rows[0]):
        _count_related(section.work, path, rows)


def _related_paths(wanted: Any, example: Any) -> list[tuple[str, ...]]:
    """The relations that select_related follows: as it names them, or where it names none, those that
    the first instance has."""
    if isinstance(wanted, dict):
        paths: list[tuple[str, ...]] = []
        for name, inner in wanted.items():
            paths.append((name,))
            paths += [(name, *path) for path in _related_paths(inner, None)]
        return paths
    if wanted is True and example is not None:
        return [(name,) for name in example._state.fields_cache]
    return []


def _count_related(work: Work, path: tuple[str, ...], rows: list[Any]) -> None:
    by_label: dict[str, list[Any]] = {}
    for instance in rows:
        for name in path:
            state = getattr(instance, "_state", None)
            instance = state.fields_cache.get(_cache_name(instance, name)) if state else None
            if instance is None:
                break
        if instance is not None:
            by_label.setdefault(instance._meta.label, []).append(instance)
    for label, instances in by_label.items():
        models.fetched_with(work, label, instances)


def _cache_name(instance: Any, name: str) -> str:
    try:
        return str(instance._meta.get_field(name).cache_name)
    except Exception:  # a reverse relation by its accessor's name: cached under just that
        return name


# --- rows one by one ------------------------------------------------------------------------------


def _wrapped_iter(original: Callable[[Any], Iterator[Any]], kind: str) -> Callable[[Any], Any]:
    def __iter__(self: Any) -> Any:
        try:
            inner = innermost()
            if inner is not None and inner.query_set is self.queryset:  # _fetch_all reads them
                return original(self)
            work = current()
            if work is None:
                return original(self)
            return _rows(work, self, original, kind)
        except BaseException as error:
            hide_frames(error)
            raise

    return detour(original, __iter__)


def _rows(
    work: Work, iterable: Any, original: Callable[[Any], Iterator[Any]], kind: str
) -> Iterator[Any]:
    """The rows, the first one in a section (it runs the statement), the others by a meter: entering
    and leaving a section for each would allocate as much as the row."""
    meter = Meter()
    count = 0
    section = some = None
    try:
        section = apart(queries.breaker, _begin, work, iterable.queryset)
        if section is None:
            yield from original(iterable)
            return
        section.query_set = iterable.queryset
        some = apart(models.breaker, _some, section, kind)
        section.enter()
        try:
            rows = iter(original(iterable))
            row = next(rows, _NO_ROW)
        finally:
            section.leave()
        while row is not _NO_ROW:
            count += 1
            if some is not None:
                some.add(row)
            yield row
            meter.begin()
            row = next(rows, _NO_ROW)
            meter.end()
    except BaseException as error:
        hide_frames(error)
        raise
    finally:
        if section is not None:
            apart(queries.breaker, _end_rows, section, count, meter, some is not None)


def _some(section: Section, kind: str) -> models.Some | None:
    if not models.enabled or kind not in ("ModelIterable", "RawModelIterable"):
        return None
    query_set: Any = section.query_set
    return models.some_of(section.work, query_set.model._meta.label)


def _end_rows(section: Section, count: int, meter: Meter, are_instances: bool) -> None:
    query_set: Any = section.query_set
    section.query.rows = count
    section.query.scopes = global_scopes.names_of(query_set.query)
    section.bytes += meter.bytes
    section.allocations += meter.count
    queries.end(section)
    if are_instances:
        hydrated = max(section.bytes - (section.fetched_bytes or 0), 0)
        label = query_set.model._meta.label
        models.breaker.call(models.streamed, section.work, label, count, hydrated)
