"""What is read of SQLAlchemy's results after their statement ran, and the instances that are made of it.

    Result.all, first, one, fetchmany, ...      +-- section: more of the same query --+
    Result.partitions, for each                 |   or here                           |
    AsyncResult's                               |   or here                           |
      a chunk of rows becomes instances         |   or here                           |
                                                +-------------------------------------+
    iteration over rows                         a reading (reading.py), but for chunks

The outermost that runs opens the section. Laws: as in django_orm.py.
"""

from __future__ import annotations

import functools
import itertools
import sys

from fastalloc.tracebacks import hide_frames
from fastalloc.trackers import models, queries
from fastalloc.trackers.reading import one_by_one, one_by_one_async, reading_of_calls
from fastalloc.trackers.work import Section, apart, innermost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from typing import Any

    from fastalloc.trackers.work import Work

KEPT = "fastalloc_section"  # attribute of an ExecutionContext
WRITES = ("INSERT", "REPLACE", "UPDATE", "DELETE")
_ONE = (
    *("fetchone", "first", "one", "one_or_none", "scalar", "scalar_one", "scalar_one_or_none"),
    *("__next__", "__anext__"),
)
_MANY = ("all", "fetchall", "fetchmany")


def wrappers() -> Iterator[tuple[type, str, Callable[[Any], Any]]]:
    """(class, name of a method, what wraps it) of all that reads rows."""
    from sqlalchemy.engine import result

    for kind in (result.Result, result.ScalarResult, result.MappingResult):
        yield from _of_class(kind, _wrapped_read, _wrapped_partitions)
        yield kind, "__iter__", _wrapped_iter
    if "sqlalchemy.ext.asyncio" in sys.modules:
        from sqlalchemy.ext import asyncio

        for each in (asyncio.AsyncResult, asyncio.AsyncScalarResult, asyncio.AsyncMappingResult):
            next_row = each.__dict__["__anext__"]
            yield from _of_class(each, _wrapped_async_read, _wrapped_async_partitions)
            yield each, "__aiter__", _wrapped_aiter(next_row)


def _of_class(
    kind: type, read: Callable[[Any], Any], partitions: Callable[[Any], Any]
) -> Iterator[tuple[type, str, Callable[[Any], Any]]]:
    for name in (*_ONE, *_MANY):
        if name in kind.__dict__:
            yield kind, name, read
    yield kind, "partitions", partitions


def _query_of(result: Any) -> Section | None:
    """The section of the query whose result this is, where that was looked at."""
    try:
        # Without a loop, whose iterator would be as large as a row that is asked for by a call of its own.
        inner = getattr(result, "_real_result", None)  # of a filter
        result = result if inner is None else inner
        inner = getattr(result, "raw", None)  # of an ORM result
        result = result if inner is None else inner
        return getattr(getattr(result, "context", None), KEPT, None)
    except Exception:
        return None


def _is_open_for(section: Section | None, query: Section) -> bool:
    """Whether the section is the query's own, or one in which more of it is read."""
    return section is not None and (section is query or section.subject is query)


class _More:
    """Around one read of a query's result: a section, where none is open for it. rows: what was read."""

    __slots__ = ("_is_one", "_section", "rows")

    def __init__(self, query: Section, is_one: bool = False) -> None:
        self._is_one = is_one
        self.rows: Any = None
        self._section: Section | None = None
        if not _is_open_for(innermost(), query):
            self._section = apart(queries.breaker, queries.more_of, query)

    def __enter__(self) -> _More:
        if self._section is not None:
            self._section.enter()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._section is not None:
            self._section.leave()
            apart(queries.breaker, self._count, self._section)

    def _count(self, section: Section) -> None:
        rows = int(self.rows is not None) if self._is_one else len(self.rows or ())
        queries.count_rows(section, rows)
        queries.end(section)


def _wrapped_read(original: Callable[..., Any]) -> Callable[..., Any]:
    is_one = original.__name__ in _ONE
    is_one_of_many = original.__name__ in ("fetchone", "__next__")

    def read(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            query = _query_of(self)
            if query is None:
                return original(self, *args, **kwargs)
            if is_one_of_many and not _is_open_for(innermost(), query):
                reading = reading_of_calls(query)
                if reading is not None:
                    return reading.call(original, self)
            with _More(query, is_one) as more:
                more.rows = result = original(self, *args, **kwargs)
            return result
        except BaseException as error:
            hide_frames(error)
            raise

    return read


def _wrapped_async_read(original: Callable[..., Any]) -> Callable[..., Any]:
    is_one = original.__name__ in _ONE

    async def read(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            query = _query_of(self)
            if query is None:
                return await original(self, *args, **kwargs)
            with _More(query, is_one) as more:
                more.rows = result = await original(self, *args, **kwargs)
            return result
        except BaseException as error:
            hide_frames(error)
            raise

    return read


def _wrapped_iter(original: Callable[[Any], Iterator[Any]]) -> Callable[[Any], Iterator[Any]]:
    def __iter__(self: Any) -> Iterator[Any]:
        query = _query_of(self)
        if query is None or _is_open_for(innermost(), query):
            return original(self)
        return one_by_one(query, original(self))

    return __iter__


def _wrapped_aiter(next_row: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """next_row: the class's own `__anext__`."""

    def wrap(original: Callable[[Any], AsyncIterator[Any]]) -> Callable[[Any], Any]:
        def __aiter__(self: Any) -> AsyncIterator[Any]:
            query = _query_of(self)
            if query is None or _is_open_for(innermost(), query):
                return original(self)
            return one_by_one_async(query, functools.partial(next_row, self))

        return __aiter__

    return wrap


def _wrapped_partitions(original: Callable[..., Any]) -> Callable[..., Any]:
    def partitions(self: Any, *args: Any, **kwargs: Any) -> Any:
        query = _query_of(self)
        parts = original(self, *args, **kwargs)
        return parts if query is None else _parts(query, parts)

    return partitions


def _parts(query: Section, parts: Iterator[Any]) -> Iterator[Any]:
    try:
        while True:
            with _More(query) as more:
                more.rows = part = next(parts, None)
            if part is None:
                return
            yield part
    except BaseException as error:
        hide_frames(error)
        raise


def _wrapped_async_partitions(original: Callable[..., Any]) -> Callable[..., Any]:
    def partitions(self: Any, *args: Any, **kwargs: Any) -> Any:
        query = _query_of(self)
        parts = original(self, *args, **kwargs)
        return parts if query is None else _async_parts(query, parts)

    return partitions


async def _async_parts(query: Section, parts: AsyncIterator[Any]) -> AsyncIterator[Any]:
    try:
        while True:
            with _More(query) as more:
                more.rows = part = await anext(parts, None)
            if part is None:
                return
            yield part
    except BaseException as error:
        hide_frames(error)
        raise


def wrapped_instances(original: Callable[..., Any]) -> Callable[..., Any]:
    """`sqlalchemy.orm.loading.instances`, which makes the ORM's result of a cursor's."""

    def instances(cursor: Any, context: Any) -> Any:
        try:
            result = original(cursor, context)
            query = getattr(getattr(cursor, "context", None), KEPT, None)
            if query is not None:
                joins = bool(getattr(context.compile_state, "eager_joins", None))
                apart(queries.breaker, _watch_chunks, result, query, joins)
            return result
        except BaseException as error:
            hide_frames(error)
            raise

    return instances


def _watch_chunks(result: Any, query: Section, joins: bool) -> None:
    query.query.rows_are_counted = True  # chunk by chunk
    chunks = result.chunks

    def watched(size: Any) -> Iterator[Any]:
        return _chunks(query, iter(chunks(size)), joins)

    result.chunks = watched
    # The rows at a time that the program has asked for, before or by its query (`yield_per`).
    result.iterator = itertools.chain.from_iterable(watched(getattr(result, "_yield_per", None)))


def _chunks(query: Section, chunks: Iterator[Any], joins: bool) -> Iterator[Any]:
    try:
        while True:
            reading = query.reading
            if reading is not None:  # who asks for a row, and thereby for a chunk
                reading.pause()
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
                if reading is not None:
                    reading.go_on()
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
        models.fetched(section.work, label_of_class(type(example)), unique, size)
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
            label = label_of_class(relation.mapper.class_)
            models.fetched(work, label, list(related.values()), 0)


def label_of_class(kind: Any) -> str:
    if not hasattr(kind, "__qualname__"):
        return "SQL"
    return f"{kind.__module__}.{kind.__qualname__}"


labels_by_table: dict[str, str] = {}  # of the tables that a flush may write


def changed(section: Section, rows: int) -> None:
    """The section's statement has written `rows` rows."""
    if models.enabled:
        shape = section.query.shape
        label = labels_by_table.get(shape.table.rpartition(".")[2], shape.table)
        models.breaker.call(models.changed, section.work, label, shape.verb, rows)
