"""Django: spans named by the route as urls.py spells it. One of two ways:

In settings, with the phases "view" and "render" in each span:

    MIDDLEWARE = ["fastalloc.integrations.django.Middleware", ...]   # first

Or around the whole application, so that all of the middleware counts too:

    application = WSGIMiddleware(get_wsgi_application(), name=route_name)   # or ASGIMiddleware
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.urls import Resolver404, resolve

import fastalloc

from ._names import method_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Middleware", "route_name"]

NO_ROUTE = "(no route)"
_ATTRIBUTE = "_fastalloc_scopes"


def route_name(request: Mapping[str, Any]) -> str:
    """The name of a request, from its WSGI environ or ASGI scope: "GET /orders/<int:order_id>/".

    All paths that no route matches share one name.
    """
    if "PATH_INFO" in request:
        method = request.get("REQUEST_METHOD", "")
        path = request["PATH_INFO"].encode("latin-1").decode(errors="replace")
    else:
        method = request.get("method", "WEBSOCKET")
        path = request["path"].removeprefix(request.get("root_path", ""))
    try:
        route = f"/{resolve(path or '/').route}"
    except Resolver404:
        route = NO_ROUTE
    return f"{method_name(method)} {route}"


class Middleware:
    """A request is a span, until its response is complete; a stream's until it is closed.

    Until the request has been routed, and for good where no route matches, its name is
    "GET (no route)". Works in synchronous and asynchronous stacks, without an adapter.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self._get_response = get_response
        if iscoroutinefunction(get_response):
            # Django calls hooks that are coroutine functions as they are; others it would send
            # to a thread, away from the request's context.
            markcoroutinefunction(self)
            self._answer: Callable[[Any], Any] = self._answer_async
            self.process_view: Callable[..., Any] = self._view_begins_async
            self.process_template_response: Callable[..., Any] = self._render_begins_async
        else:
            self._answer = self._answer_sync
            self.process_view = self._view_begins
            self.process_template_response = self._render_begins

    def __call__(self, request: Any) -> Any:
        return self._answer(request)

    def _answer_sync(self, request: Any) -> Any:
        scopes = _Scopes(request)
        try:
            response = self._get_response(request)
        except BaseException:
            scopes.end()
            raise
        return scopes.end_with(response)

    async def _answer_async(self, request: Any) -> Any:
        scopes = _Scopes(request)
        try:
            response = await self._get_response(request)
        except BaseException:
            scopes.end()
            raise
        return scopes.end_with(response)

    def _view_begins(self, request: Any, view: Any, args: Any, kwargs: Any) -> None:
        scopes: _Scopes | None = getattr(request, _ATTRIBUTE, None)
        if scopes is not None:
            scopes.routed(request)
            scopes.enter("view")

    async def _view_begins_async(self, request: Any, view: Any, args: Any, kwargs: Any) -> None:
        self._view_begins(request, view, args, kwargs)

    def _render_begins(self, request: Any, response: Any) -> Any:
        scopes: _Scopes | None = getattr(request, _ATTRIBUTE, None)
        if scopes is not None:
            scopes.enter("render")
        return response

    async def _render_begins_async(self, request: Any, response: Any) -> Any:
        return self._render_begins(request, response)


class _Scopes:
    """A request's span, and the phase it is in."""

    __slots__ = ("_phase", "_span")

    def __init__(self, request: Any) -> None:
        fastalloc.profiler.serving()
        self._phase: Any = None
        self._span: Any = fastalloc.span(f"{method_name(request.method)} {NO_ROUTE}")
        self._span.__enter__()
        setattr(request, _ATTRIBUTE, self)

    def routed(self, request: Any) -> None:
        match = request.resolver_match
        if match is not None and self._span is not None:
            self._span.rename(f"{method_name(request.method)} /{match.route}")

    def enter(self, name: str) -> None:
        self._leave_phase()
        if self._span is not None:
            self._phase = fastalloc.phase(name)
            self._phase.__enter__()

    def end_with(self, response: Any) -> Any:
        """End now; for a stream that Django itself sends, when Django closes it."""
        self._leave_phase()
        closers = getattr(response, "_resource_closers", None)
        is_file = getattr(response, "file_to_stream", None) is not None
        if getattr(response, "streaming", False) and not is_file and isinstance(closers, list):
            self.enter("stream")
            closers.append(self.end)
        else:
            self.end()
        return response

    def end(self) -> None:
        self._leave_phase()
        span, self._span = self._span, None
        if span is not None:
            span.__exit__(None, None, None)

    def _leave_phase(self) -> None:
        phase, self._phase = self._phase, None
        if phase is not None:
            phase.__exit__(None, None, None)
