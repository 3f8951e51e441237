"""Global scopes: what is added to every query of a model without the query saying so.

In Django: managers that override `get_queryset`. In SQLAlchemy: `with_loader_criteria` options that a listener
of `do_orm_execute` adds. For each: how often it was applied, what it adds, the queries that ran under it, their
rows and bytes (nested ones, such as prefetches, with them), and what applying it allocated itself.
"""

from __future__ import annotations

from fastalloc.breaker import Breaker
from fastalloc.trackers.replaced import Replaced
from fastalloc.trackers.work import Section, around, bounded_label

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fastalloc.trackers.work import Work

NAME = "global_scopes"
MAX_PER_REQUEST = 60
MAX_PER_PROCESS = 200
DIGEST_SCOPES, DUMP_SCOPES = 8, 40
TAG = "fastalloc_scopes"  # attribute of a Query, which its clones take over

breaker = Breaker("tracker global_scopes")
enabled = True

_replaced = Replaced()


class Scope:
    """One global scope in one request, or in all of the process."""

    __slots__ = ("adds", "applied", "bytes", "nested", "own_bytes", "queries", "rows")

    def __init__(self) -> None:
        self.adds: tuple[str, ...] = ()
        self.applied = self.queries = self.nested = self.rows = self.bytes = self.own_bytes = 0

    def to_dict(self) -> dict[str, Any]:
        """Fit for JSON."""
        return {
            "applied": self.applied,
            "adds": list(self.adds),
            "queries": self.queries,
            "nested_queries": self.nested,
            "rows": self.rows,
            "bytes": self.bytes,
            "own_bytes": self.own_bytes,
        }


def _get(table: dict[str, Scope], name: str, capacity: int) -> Scope:
    """The entry; one that is kept nowhere where the table is full."""
    found = table.get(name)
    if found is None:
        found = Scope()
        if len(table) < capacity:
            table[name] = found
    return found


def of(work: Work) -> dict[str, Scope]:
    """The request's table."""
    return work.notes.setdefault(NAME, {})  # type: ignore[no-any-return]


def applied(
    work: Work, name: str, adds: tuple[str, ...], *, size: int = 0, nested: int = 0
) -> None:
    """A scope was added to a query; `size` bytes and `nested` queries went into that alone."""
    scope = _get(of(work), name, MAX_PER_REQUEST)
    scope.applied += 1
    scope.own_bytes += size
    scope.nested += nested
    scope.adds = adds or scope.adds


def cost(work: Work, name: str, size: int) -> None:
    """`size` bytes went into applying a scope alone, besides those that `applied` was told of."""
    _get(of(work), name, MAX_PER_REQUEST).own_bytes += size


def names_of(query: Any) -> tuple[str, ...]:
    """The scopes that a Django query went through."""
    return getattr(query, TAG, ())


def count(section: Section, name: str, rows: int, executions: int = 1) -> None:
    """A query has run in `section`, or with executions=0 more of its rows were read, under `name`."""
    scope = _get(of(section.work), name, MAX_PER_REQUEST)
    scope.queries += executions
    scope.nested += section.nested_count
    scope.rows += rows
    outer = section.within
    while outer is not None and name not in getattr(outer.query, "scopes", ()):
        outer = outer._outer or outer.within
    if outer is None:  # else: nested in a query under the same scope, which will count it
        scope.bytes += section.bytes + section.nested_bytes


# --- Django's managers ------------------------------------------------------------------------------


def install_django() -> None:
    """Wrap `get_queryset` of all managers that override it."""
    from django.apps import apps
    from django.db.models.manager import BaseManager

    for model in apps.get_models(include_auto_created=True):
        managers = [*model._meta.managers, model._default_manager, model._base_manager]
        for manager in managers:
            for kind in type(manager).__mro__:
                original = kind.__dict__.get("get_queryset")
                is_djangos = kind is BaseManager or kind.__module__.startswith("django.")
                if original is None or is_djangos or hasattr(original, "fastalloc_wrapped"):
                    continue
                name = f"{kind.__module__}.{kind.__qualname__}"
                _replaced.put(kind, "get_queryset", _wrapped(original, name))


def uninstall_django() -> None:
    """The managers as they were."""
    _replaced.restore()


def _wrapped(original: Callable[..., Any], name: str) -> Callable[..., Any]:
    def begin(work: Work, args: tuple[Any, ...]) -> Section:
        whole = f"{args[0].model._meta.label}, {name}"
        return Section(work, bounded_label(f"scope {whole}"), whole)

    get_queryset = around(original, breaker, begin, _end)
    get_queryset.fastalloc_wrapped = True  # type: ignore[attr-defined]
    return get_queryset


def _end(section: Section, query_set: Any) -> None:
    if query_set is None:
        return
    name = str(section.subject)
    size = section.bytes + section.nested_bytes
    applied(section.work, name, _adds(query_set), size=size, nested=section.nested_count)
    query = query_set.query
    names = getattr(query, TAG, ())
    if name not in names:
        setattr(query, TAG, (*names, name))


def _adds(query_set: Any) -> tuple[str, ...]:
    """What a query set has that one without the manager has not: kinds and names, no values."""
    query, found = query_set.query, []
    if query.where:
        found.append("filter")
    if query.annotations:
        found.append(f"annotate {' '.join(map(str, query.annotations))}"[:200])
    if isinstance(query.select_related, dict):
        found.append(f"select_related {' '.join(query.select_related)}"[:200])
    elif query.select_related:
        found.append("select_related")
    lookups = query_set._prefetch_related_lookups
    if lookups:
        names = (getattr(lookup, "prefetch_to", lookup) for lookup in lookups)
        found.append(f"prefetch_related {' '.join(map(str, names))}"[:200])
    if query.distinct:
        found.append("distinct")
    return tuple(found)


# --- what is told -----------------------------------------------------------------------------------

_process: dict[str, Scope] = {}


def finish(work: Work) -> dict[str, Any] | None:
    """The request is over: into the process's table, and a digest for the request."""
    table: dict[str, Scope] = work.notes.get(NAME, {})
    if not table:
        return None
    for name, scope in table.items():
        whole = _get(_process, name, MAX_PER_PROCESS)
        for field in ("applied", "queries", "nested", "rows", "bytes", "own_bytes"):
            setattr(whole, field, getattr(whole, field) + getattr(scope, field))
        whole.adds = scope.adds or whole.adds
    return {"scopes": _told(table, DIGEST_SCOPES)}


def _told(table: dict[str, Scope], most: int) -> dict[str, Any]:
    scopes = sorted(table.items(), key=lambda item: -item[1].bytes)[:most]
    return {name: scope.to_dict() for name, scope in scopes}


def section() -> dict[str, Any]:
    """The dump's part: all requests that were looked at."""
    return {"scopes": _told(_process, DUMP_SCOPES)}


def reset() -> None:
    """Forget all: a forked child's table is its own."""
    _process.clear()
