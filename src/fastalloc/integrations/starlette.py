"""Starlette and FastAPI: a pure ASGI middleware that knows their routes.

    app.add_middleware(fastalloc.integrations.starlette.Middleware)

or around the whole application, so that all of the middleware counts too:

    application = fastalloc.integrations.starlette.Middleware(app)

A request is a span named by its route as the application spells it, mounts included; what no route
matches is "GET (no route)". Phases: "app", "stream", "background", see asgi.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.routing import Mount

from ._names import NO_ROUTE
from .asgi import ASGIMiddleware, template_of

if TYPE_CHECKING:
    from collections.abc import MutableMapping

__all__ = ["Middleware"]


class Middleware(ASGIMiddleware):
    """Wraps a Starlette or FastAPI application; its arguments are those of ASGIMiddleware."""

    def _route(self, scope: MutableMapping[str, Any], root: str) -> str | None:
        route = scope.get("route")
        if route is None:
            if "router" in scope and "endpoint" not in scope:
                return NO_ROUTE
            return super()._route(scope, root)  # Starlette before 1.0 tells parameters only
        mounted = template_of(
            str(scope.get("root_path", "")).removeprefix(root), scope.get("path_params")
        )
        if isinstance(route, Mount):  # of something that is no router: all below it is one
            return f"{mounted}/{{path}}"
        return mounted + str(getattr(route, "path", ""))
