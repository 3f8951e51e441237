"""ASGI: a request is a span, from the call of the application to its return.

    application = ASGIMiddleware(application)

Any framework, any server; HTTP requests and websocket connections are spans, the lifespan
passes through. In the span, the phase "app" is the application's coroutine. `scope`, `receive`
and `send` are handed on as they are. Exceptions pass untouched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import fastalloc

from ._names import Names, method_name, route_of_path

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
    Application = Callable[[Scope, Receive, Send], Awaitable[None]]

__all__ = ["ASGIMiddleware"]


class ASGIMiddleware:
    """Wraps an ASGI application so that each of its requests is a span.

    `name` gives a request's name from its scope. Without it the name is "METHOD route", the
    route being the framework's own where it leaves one in the scope (FastAPI, Starlette), or the
    path with its values taken out.
    """

    def __init__(self, app: Application, *, name: Callable[[Scope], str] | None = None) -> None:
        self._app = app
        self._name = name
        self._names = Names()
        self._serving = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        if not self._serving:
            self._serving = True
            fastalloc.profiler.serving()
        named = self._given_name(scope)
        root = str(scope.get("root_path", ""))
        with fastalloc.span(named or self._names.bounded(_name_of_path(scope))) as span:
            try:
                with fastalloc.phase("app"):
                    await fastalloc.profiler.follow(self._app(scope, receive, send))
            finally:
                route = None if named else _route_left_behind(scope, root)
                if route:
                    span.rename(self._names.bounded(f"{_method(scope)} {route}"))

    def _given_name(self, scope: Scope) -> str | None:
        if self._name is None:
            return None
        try:
            return self._names.bounded(self._name(scope))
        except Exception:  # a name is not worth a request
            return None


def _method(scope: Scope) -> str:
    return method_name(str(scope.get("method", "WEBSOCKET")))


def _name_of_path(scope: Scope) -> str:
    return f"{_method(scope)} {route_of_path(str(scope.get('path', '/')))}"


def _route_left_behind(scope: Scope, root: str) -> str | None:
    """The route template, where the framework's router has put it into the scope on its way.

    `root` is the scope's root_path before the call: what a router has added to it since is where
    the application that knows the route is mounted.
    """
    template = getattr(scope.get("route"), "path", None)
    if isinstance(template, str):
        mounted = str(scope.get("root_path", "")).removeprefix(root)
        return route_of_path(mounted) + template
    parameters = scope.get("path_params")
    if not isinstance(parameters, dict) or not parameters:
        return None
    names = {str(value): name for name, value in parameters.items()}
    segments = str(scope.get("path", "/")).split("/")
    if names.keys() - set(segments):  # a parameter that spans segments, or was converted
        return None
    return "/".join(
        f"{{{names[part]}}}" if part in names else route_of_path(part) for part in segments
    )
