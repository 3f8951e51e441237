"""SQLAlchemy's loader criteria (`with_loader_criteria`), for the tracker of global scopes."""

from __future__ import annotations

from fastalloc.trackers import global_scopes
from fastalloc.trackers.sqlalchemy_results import label_of_class
from fastalloc.trackers.work import Section, around, bounded_label

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fastalloc.trackers.work import Work


def names_of(work: Work, context: Any) -> tuple[str, ...]:
    """The loader criteria of the statement, as names of global scopes; each is counted as applied."""
    if not global_scopes.enabled:
        return ()
    found = global_scopes.breaker.call(_names_of, work, context)
    return found or ()


def _names_of(work: Work, context: Any) -> tuple[str, ...]:
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


def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
    """A method of LoaderCriteriaOption: what it allocates is the scope's own."""
    return around(original, global_scopes.breaker, _begin, _end)


def _begin(work: Work, args: tuple[Any, ...]) -> Section | None:
    if not global_scopes.enabled:
        return None
    option, *given = args
    name = _name_of_criteria(_class_of(option) or (given[0] if given else None))
    return Section(work, bounded_label(f"scope {name}"), option)


def _end(section: Section, result: Any) -> None:
    name = _name_of_criteria(_class_of(section.subject))
    global_scopes.cost(section.work, name, section.bytes + section.nested_bytes)
