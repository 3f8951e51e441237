"""Starlette and FastAPI: a pure ASGI middleware that knows their routes.

    app.add_middleware(fastalloc.integrations.starlette.Middleware)

or around the whole application, so that all of the middleware counts too:

    application = fastalloc.integrations.starlette.Middleware(app)

A request is a span named by its route as the application spells it, mounts included, from its begin: the
routes are asked before the application is. What no route matches is "GET (no route)". Phases: "app",
"stream", "background", see asgi.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._names import NO_ROUTE
from ._route_table import KnownNames, RouteTable, below_root, table_of
from .asgi import ASGIMiddleware, method_of, route_left_behind

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from .asgi import Application

    Scope = MutableMapping[str, Any]

__all__ = ["Middleware"]


class Middleware(ASGIMiddleware):
    """Wraps a Starlette or FastAPI application; its arguments are those of ASGIMiddleware."""

    def __init__(self, app: Application, *, name: Callable[[Scope], str] | None = None) -> None:
        super().__init__(app, name=name)
        self._table: RouteTable | None = None
        self._root = ""
        self._looked = False
        self._known = KnownNames()

    def _name_ahead(self, scope: Scope) -> str | None:
        if self._name is not None:
            return super()._name_ahead(scope)
        try:
            route = self._route_ahead(scope)
        except Exception:  # a name is not worth a request
            return None
        name = self._names.of(method_of(scope), route) if route else None
        if self._table is not None:
            key = scope["type"], scope.get("method", ""), scope.get("root_path", ""), scope["path"]
            self._known.add(self._table, key, name)
            self._opener.know(self._known.names, self._table.routes)
        return name

    def _route_ahead(self, scope: Scope) -> str | None:
        if not self._looked:  # by now the application has all of its routes
            self._looked = True
            found = table_of(self._app)
            if found is not None:
                self._table, self._root = found
        if self._table is None:
            return None
        path, root = scope["path"], self._root or scope.get("root_path")
        return self._table.find(scope, below_root(path, root) if root else path)

    def _route_taken(self, scope: Scope, path: str, root: str) -> str | None:
        if self._table is not None and scope.get("path") == path:  # nothing new
            return None
        if "router" not in scope:  # it has not come there
            return None
        if self._table is None:  # a middleware hides the application's routes
            return route_left_behind(scope, root) or NO_ROUTE
        return self._route_ahead({**scope, "root_path": root}) or NO_ROUTE
