"""The middleware that settings name, and the name of a request by its route."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.urls import Resolver404, resolve

from fastalloc import profiler, requests
from fastalloc.integrations._names import NO_ROUTE, method_name
from fastalloc.tracebacks import hide_frames

from . import options, staff

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Middleware", "route_name"]

_ATTRIBUTE = "_fastalloc_request"
_HEADER = "HTTP_X_FORCE_MEMORY_PROFILE"


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

    Phases: "middleware" until the view is called, "view" (with what middlewares do to its response),
    "render" of a TemplateResponse, "stream". Until the request has been routed, and for good where no
    route matches, its name is "GET (no route)". Works in synchronous and asynchronous stacks, without
    an adapter.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self._get_response = get_response
        requests.prepare()
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
        answering = _Answering(request)
        try:
            response = self._get_response(request)
        except BaseException as error:
            answering.fail(error)
            hide_frames(error)
            raise
        return answering.end_with(response)

    async def _answer_async(self, request: Any) -> Any:
        answering = _Answering(request)
        try:
            response = await self._get_response(request)
        except BaseException as error:
            answering.fail(error)
            hide_frames(error)
            raise
        return answering.end_with(response)

    def _view_begins(self, request: Any, view: Any, args: Any, kwargs: Any) -> None:
        answering: _Answering | None = getattr(request, _ATTRIBUTE, None)
        if answering is not None:
            answering.routed(request)
            if answering.asks_to_force(request) and staff.sends(request):
                answering.span.force()
            answering.span.enter("view")

    async def _view_begins_async(self, request: Any, view: Any, args: Any, kwargs: Any) -> None:
        answering: _Answering | None = getattr(request, _ATTRIBUTE, None)
        if answering is not None:
            answering.routed(request)
            if answering.asks_to_force(request) and await staff.sends_async(request):
                answering.span.force()
            answering.span.enter("view")

    def _render_begins(self, request: Any, response: Any) -> Any:
        answering: _Answering | None = getattr(request, _ATTRIBUTE, None)
        if answering is not None:
            answering.span.enter("render")
        return response

    async def _render_begins_async(self, request: Any, response: Any) -> Any:
        return self._render_begins(request, response)


class _Answering:
    """A request that is being answered: its span, and whether that is ours to end."""

    __slots__ = ("_is_ours", "_method", "span")

    def __init__(self, request: Any) -> None:
        self._method = method_name(request.method)
        outer = requests.current()
        self._is_ours = outer is None or outer.kind not in ("http", "websocket")
        if self._is_ours or outer is None:
            profiler.serving()
            token = request.META.get(_HEADER)
            self.span = requests.begin(f"{self._method} {NO_ROUTE}", token=token)
        else:  # the whole application is wrapped: its request goes on
            self.span = outer
        self.span.enter("middleware")
        setattr(request, _ATTRIBUTE, self)

    def routed(self, request: Any) -> None:
        match = request.resolver_match
        if match is not None:
            self.span.rename(f"{self._method} /{match.route}")

    def asks_to_force(self, request: Any) -> bool:
        """Whether it could be that a staff user forces this request."""
        return _HEADER in request.META and options.staff_may_force(settings)

    def fail(self, error: BaseException) -> None:
        self.span.leave()
        if self._is_ours:
            self.span.end(error)

    def end_with(self, response: Any) -> Any:
        """End now; for a stream that Django itself sends, when Django closes it."""
        span = self.span
        span.status = getattr(response, "status_code", 0)
        span.leave()
        if not self._is_ours:
            return response
        closers = getattr(response, "_resource_closers", None)
        is_file = getattr(response, "file_to_stream", None) is not None
        if getattr(response, "streaming", False) and not is_file and isinstance(closers, list):
            span.enter("stream")
            closers.append(span.end)
        else:
            span.end()
        return response
