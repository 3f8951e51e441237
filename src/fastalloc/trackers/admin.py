"""Stages of a page of Django's admin, and what each allocates.

    navigation             the list of apps and models that every page has
    change list query      finding the rows of a list page
    filters                the list page's filters, with the queries for their choices
    rows                   rendering the list's rows
    forms                  making the forms and inlines of a change page
    foreign-key selects    rendering a select with one option per row of another model
    page                   other parts of the page: actions, search, pagination
    boot                   importing the admin modules of all apps, once per process

A stage's bytes are its own with its queries', without those of stages inside it.
"""

from __future__ import annotations

from fastalloc._core import Phase
from fastalloc.breaker import Breaker
from fastalloc.trackers.replaced import Replaced
from fastalloc.trackers.work import Section, around

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fastalloc.trackers.work import Work

NAME = "admin"
MAX_ROUTES = 100
DUMP_ROUTES = 20
QUERY = "change list query"

breaker = Breaker("tracker admin")
enabled = True

_boot_bytes = 0
_replaced = Replaced()


class Stages:
    """The stages of one request, or of all requests of a route."""

    __slots__ = ("by_name", "open", "requests", "result_list")

    def __init__(self) -> None:
        self.by_name: dict[str, list[int | float]] = {}  # entered, bytes, queries, seconds
        self.open: list[list[int]] = []  # per open stage: bytes and queries of stages inside it
        self.requests = 0
        self.result_list: object = None  # the query set of the page's rows, before it is fetched

    def add(self, name: str, *values: float) -> None:
        """Another visit of a stage, or another request's visits."""
        known = self.by_name.setdefault(name, [0, 0, 0, 0.0])
        for index, value in enumerate(values):
            known[index] += value

    def to_dict(self) -> dict[str, Any]:
        """Fit for JSON, the largest first."""
        stages = sorted(self.by_name.items(), key=lambda item: -item[1][1])
        return {
            "bytes": sum(int(values[1]) for _, values in stages),
            "stages": {
                name: {
                    "bytes": values[1],
                    "entered": values[0],
                    "queries": values[2],
                    "seconds": round(values[3], 6),
                }
                for name, values in stages
            },
        }


def install_django() -> None:
    """Wrap the methods that are stages; none that a URLconf may hold already, as it holds views."""
    from django.contrib.admin import AdminSite, ModelAdmin, widgets
    from django.contrib.admin.templatetags.base import InclusionAdminNode
    from django.contrib.admin.views.main import ChangeList

    for owner, name, stage in (
        (AdminSite, "each_context", "navigation"),
        (AdminSite, "get_app_list", "navigation"),
        (ModelAdmin, "get_changelist_instance", QUERY),
        (ChangeList, "get_filters", "filters"),
        (ModelAdmin, "changeform_view", "forms"),
        (widgets.RelatedFieldWidgetWrapper, "get_context", "foreign-key selects"),
    ):
        _wrap(owner, name, _Always(stage))
    _wrap(InclusionAdminNode, "render", _stage_of_node)


def uninstall() -> None:
    """Everything as it was."""
    _replaced.restore()


def _wrap(owner: Any, name: str, stage_of: Callable[[tuple[Any, ...]], str]) -> None:
    original = owner.__dict__.get(name)
    if original is None:  # of another version of Django
        return

    def begin(work: Work, args: tuple[Any, ...]) -> Section:
        stage = stage_of(args)
        of(work).open.append([0, 0])
        return Section(work, f"admin {stage}", stage)

    _replaced.put(owner, name, around(original, breaker, begin, _end))


class _Always:
    """The stage of a method that is one."""

    __slots__ = ("_stage",)

    def __init__(self, stage: str) -> None:
        self._stage = stage

    def __call__(self, args: tuple[Any, ...]) -> str:
        return self._stage


def _stage_of_node(args: tuple[Any, ...]) -> str:
    return "rows" if args[0].template_name == "change_list_results.html" else "page"


def of(work: Work) -> Stages:
    """The request's stages."""
    found = work.notes.get(NAME)
    if found is None:
        found = work.notes[NAME] = Stages()
    return found


def _end(section: Section, result: Any) -> None:
    stages = of(section.work)
    inner_bytes, inner_queries = stages.open.pop()
    size = section.bytes + section.nested_bytes
    queries = section.nested_count
    stages.add(
        str(section.subject), 1, size - inner_bytes, queries - inner_queries, section.seconds
    )
    if stages.open:
        stages.open[-1][0] += size
        stages.open[-1][1] += queries
    if section.subject == QUERY:
        stages.result_list = getattr(result, "result_list", None)


def fetched(section: Section, query_set: object, size: int) -> None:
    """A query set was fetched: the rows of a list page are part of its stage, wherever that happens."""
    stages: Stages | None = section.work.notes.get(NAME)
    if stages is not None and stages.result_list is query_set:
        stages.result_list = None
        stages.add(QUERY, 0, size, 1, 0.0)
        if stages.open:
            stages.open[-1][0] += size
            stages.open[-1][1] += 1


def watch_boot() -> None:
    """Measure the import of all admin modules: the phase "admin boot" of the process. To be called
    before the admin's own AppConfig is ready; later it does nothing."""
    from django.contrib import admin

    original = admin.autodiscover

    def autodiscover() -> None:
        global _boot_bytes
        admin.autodiscover = original
        boot = Phase("admin boot")
        with boot:
            original()
        _boot_bytes = boot.totals()[2]

    admin.autodiscover = autodiscover


# --- what is told -----------------------------------------------------------------------------------

_by_route: dict[str, Stages] = {}


def finish(work: Work) -> dict[str, Any] | None:
    """The request is over: into the process's table, and a digest for the request."""
    stages: Stages | None = work.notes.get(NAME)
    if stages is None or not stages.by_name:
        return None
    route = work.request.route
    if route in _by_route or len(_by_route) < MAX_ROUTES:
        whole = _by_route.setdefault(route, Stages())
        whole.requests += 1
        for name, values in stages.by_name.items():
            whole.add(name, *values)
    return stages.to_dict()


def section() -> dict[str, Any]:
    """The dump's part: the stages by route, all requests that were looked at together."""
    routes = [(route, stages, stages.to_dict()) for route, stages in tuple(_by_route.items())]
    routes.sort(key=lambda one: -one[2]["bytes"])
    return {
        "boot_bytes": _boot_bytes,
        "routes": {
            route: {"requests": stages.requests, **told}
            for route, stages, told in routes[:DUMP_ROUTES]
        },
    }


def reset() -> None:
    """Forget all: a forked child's table is its own."""
    _by_route.clear()
