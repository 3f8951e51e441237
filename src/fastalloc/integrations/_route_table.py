"""Which route a Starlette or FastAPI application will take for a path, before it does.

The application's own routes, flattened once and matched by their own regular expressions, without their
convertors: a tenth of what asking each route costs. Mounts are followed to the route below them.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from starlette.routing import Host, Match, Mount, Route, WebSocketRoute

from ._names import NO_ROUTE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, MutableMapping

MAX_KNOWN, MAX_KNOWN_CHARACTERS = 256, 100
MAX_DEPTH = 20  # mounts in mounts; an application may mount itself


class RouteTable:
    """The routes of one application. `routes` is its own list: the table follows when that grows."""

    def __init__(self, routes: list[Any], depth: int = 0) -> None:
        self.routes = routes
        self.path_tells = False
        """Whether the kind of request, its method and path are all that a route depends on."""
        self._length = -1
        self._depth = depth
        self._entries: list[_Entry] = []

    def find(self, scope: MutableMapping[str, Any], path: str) -> str | None:
        """The template of the route for `path` (below the application's root) and the scope's method:
        the first that takes both, else the first that takes the path. None: there is none."""
        if len(self.routes) != self._length:
            self._length = len(self.routes)
            self._entries = [_Entry(route, self._depth) for route in _flat(self.routes)]
            self.path_tells = all(entry.match and not entry.below for entry in self._entries)
        return self._match(scope, path)

    def _match(self, scope: MutableMapping[str, Any], path: str) -> str | None:
        partial = None
        kind, method = scope["type"], scope.get("method", "")
        for entry in self._entries:
            if entry.kind != kind and entry.kind is not None:
                continue
            if entry.match is None:  # a route of a kind of its own
                matched, _ = entry.route.matches(scope)
                if matched is Match.NONE:
                    continue
                is_full, found = matched is Match.FULL, None
            else:
                found = entry.match(path)
                if found is None:
                    continue
                is_full = not entry.methods or method in entry.methods
            if is_full:
                return entry.template_of(scope, path, found)
            partial = partial or entry
        return partial.template if partial is not None else None


class KnownNames:
    """The names of the last requests, by what they depend on: most requests are for few paths. They hold while
    there are as many routes as there were when the last was added."""

    def __init__(self) -> None:
        self.names: dict[tuple[str, str, str, str], str | None] = {}
        self._routes_count = 0

    def add(self, table: RouteTable, key: tuple[str, str, str, str], name: str | None) -> None:
        """Remember a name that the table has just told."""
        if len(table.routes) != self._routes_count or len(self.names) >= MAX_KNOWN:
            self.names.clear()
        self._routes_count = len(table.routes)
        if table.path_tells and sum(map(len, key)) <= MAX_KNOWN_CHARACTERS:
            self.names[key] = name


class _Entry:
    """A route: `match` its regular expression's, `kind` of the only requests it takes, `below` what is
    mounted there."""

    __slots__ = ("below", "is_mount", "kind", "match", "methods", "route", "template")

    def __init__(self, route: Any, depth: int) -> None:
        self.route = route
        self.template = str(getattr(route, "path", "") or "")
        self.match: Callable[[str], Any] | None = None
        self.methods: frozenset[str] = frozenset()
        self.kind: str | None = None
        self.below: RouteTable | None = None
        original = getattr(route, "original_route", route)  # of a context of FastAPI's
        self.is_mount = isinstance(original, Mount)
        if isinstance(original, (Route, WebSocketRoute, Mount)):
            self.match = route.path_regex.match
            self.methods = frozenset(getattr(route, "methods", None) or ())
        if isinstance(original, Route):
            self.kind = "http"
        elif isinstance(original, WebSocketRoute):
            self.kind = "websocket"
        elif depth < MAX_DEPTH and isinstance(original, (Mount, Host)) and route.routes:
            self.below = RouteTable(route.routes, depth + 1)

    def template_of(self, scope: MutableMapping[str, Any], path: str, found: Any) -> str | None:
        """With what is below it, for a mount."""
        if self.below is not None:
            rest = f"/{found['path']}" if self.is_mount else path
            below = self.below.find(scope, rest)
            return f"{self.template}{below}" if below is not None else NO_ROUTE
        if self.is_mount:  # of something that is no router: all below it is one
            return f"{self.template}/{{path}}"
        return self.template or None


def _flat(routes: Iterable[Any]) -> Iterable[Any]:
    """With FastAPI's included routers in the places of which they are made."""
    fastapi = sys.modules.get("fastapi.routing")
    contexts = getattr(fastapi, "iter_route_contexts", None)
    return contexts(routes) if contexts is not None else routes


def table_of(application: Any) -> tuple[RouteTable, str] | None:
    """The routes of the first application inside `application`'s middlewares that has some, and the root
    that it puts before its paths; None where there is none."""
    for _ in range(MAX_DEPTH):
        routes = getattr(application, "routes", None)
        if isinstance(routes, list):
            return RouteTable(routes), str(getattr(application, "root_path", "") or "")
        application = getattr(application, "app", None)
        if application is None:
            break
    return None


def below_root(path: str, root: str) -> str:
    """`path` as an application's routes see it, which is mounted at `root`."""
    if root and path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/"):
        return path[len(root) :]
    return path
