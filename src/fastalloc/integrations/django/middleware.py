"""The middlewares that settings name: the first makes requests spans, the last says where the view ends."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.core.checks import register
from django.core.handlers.wsgi import WSGIRequest
from django.core.signals import request_finished

import fastalloc
from fastalloc import profiler, requests
from fastalloc.integrations._names import NO_ROUTE, method_name
from fastalloc.tracebacks import hide_frames

from . import options, rendering, staff
from .checks import check_settings
from .routes import readable, route_ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Middleware", "ViewMiddleware"]

_ATTRIBUTE = "_fastalloc_request"
_HEADER = "HTTP_X_FORCE_MEMORY_PROFILE"


class Middleware:
    """A request is a span, until its response is closed; in ASGI until it is there, or its stream closed.

    Phases: "middleware" until the view is called, "view" (with what middlewares do to its response, unless
    ViewMiddleware says where it ends), "render" of templates, "middleware" again, "stream", "tear-down"
    (WSGI: the sending of a response that is complete, its closers, receivers of request_finished). Its name
    is its route's from the begin, or once a middleware has chosen another URLconf; where no route matches,
    "GET (no route)". Works in synchronous and asynchronous stacks, without an adapter.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self._get_response = get_response
        options.hand_on(settings)
        register(check_settings)
        rendering.watch()
        request_finished.connect(_torn_down, dispatch_uid="fastalloc")
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
            if answering.asks_to_force(request):
                with answering.beside():
                    is_staff = staff.sends(request)
                if is_staff:
                    answering.span.force()
            answering.span.enter("view")

    async def _view_begins_async(self, request: Any, view: Any, args: Any, kwargs: Any) -> None:
        answering: _Answering | None = getattr(request, _ATTRIBUTE, None)
        if answering is not None:
            answering.routed(request)
            if answering.asks_to_force(request):
                with answering.beside():
                    is_staff = await staff.sends_async(request)
                if is_staff:
                    answering.span.force()
            answering.span.enter("view")

    def _render_begins(self, request: Any, response: Any) -> Any:
        answering: _Answering | None = getattr(request, _ATTRIBUTE, None)
        if answering is not None:
            span = answering.span
            span.enter(rendering.PHASE)
            rendered = getattr(response, "add_post_render_callback", None)
            if rendered is not None and not getattr(response, "is_rendered", True):
                rendered(lambda response: span.enter("middleware"))
        return response

    async def _render_begins_async(self, request: Any, response: Any) -> Any:
        return self._render_begins(request, response)


class ViewMiddleware:
    """Last in MIDDLEWARE: what other middlewares do to the view's response is "middleware" again."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self._get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)
            self._answer: Callable[[Any], Any] = self._answer_async
        else:
            self._answer = self._answer_sync

    def __call__(self, request: Any) -> Any:
        return self._answer(request)

    def _answer_sync(self, request: Any) -> Any:
        try:
            response = self._get_response(request)
        except BaseException as error:
            hide_frames(error)
            raise
        return self._view_ended(request, response)

    async def _answer_async(self, request: Any) -> Any:
        try:
            response = await self._get_response(request)
        except BaseException as error:
            hide_frames(error)
            raise
        return self._view_ended(request, response)

    def _view_ended(self, request: Any, response: Any) -> Any:
        answering: _Answering | None = getattr(request, _ATTRIBUTE, None)
        if answering is not None and answering.span.phase != "middleware":
            answering.span.enter("middleware")
        return response


class _Answering:
    """A request that is being answered: its span, and whether that is ours to end."""

    __slots__ = ("_is_closed", "_is_ours", "_is_wsgi", "_method", "_route", "span")

    def __init__(self, request: Any) -> None:
        self._method = str(request.method)
        self._route: str | None = None  # which its name tells
        self._is_closed = False
        self._is_wsgi = isinstance(request, WSGIRequest)
        left = _answered.get()
        if left is not None:  # nobody has closed the response before
            left.end()
        outer = requests.current()
        self._is_ours = outer is None or outer.kind not in ("http", "websocket")
        if self._is_ours or outer is None:
            profiler.serving()
            route = self._route = route_ahead(request) if requests.active() else None
            self.span = requests.begin(
                _name(self._method, route),
                token=request.META.get(_HEADER),
                named=route is not None,
            )
        else:  # the whole application is wrapped: its request goes on
            self.span = outer
        self.span.enter("middleware")
        setattr(request, _ATTRIBUTE, self)

    def routed(self, request: Any) -> None:
        match = request.resolver_match
        if match is not None:
            try:
                route = readable(match.route)
            except Exception:  # of a resolver of the program's own
                return
            if route != self._route:
                self._route = route
                self.span.rename(_name(self._method, route))

    @contextmanager
    def beside(self) -> Iterator[None]:
        """What we do here is not the request's."""
        self.span.leave()
        self.span.suspend()
        try:
            yield
        finally:
            self.span.resume()

    def asks_to_force(self, request: Any) -> bool:
        """Whether it could be that a staff user forces this request."""
        return (
            _HEADER in request.META and not self.span.chosen and options.staff_may_force(settings)
        )

    def fail(self, error: BaseException) -> None:
        self.span.leave()
        if self._is_ours:
            self.span.end(error)

    def end_with(self, response: Any) -> Any:
        """The response is ready. End when it is closed; now, where that would happen in another task (ASGI,
        unless it is a stream), or the server sends a file by itself."""
        span = self.span
        span.status = getattr(response, "status_code", 0)
        span.leave()
        if span.chosen:
            fastalloc.checkpoint("response ready")
        if not self._is_ours:
            return response
        closers = getattr(response, "_resource_closers", None)
        is_stream = bool(getattr(response, "streaming", False))
        is_file = getattr(response, "file_to_stream", None) is not None
        if (is_stream or self._is_wsgi) and not is_file and isinstance(closers, list):
            span.enter("stream" if is_stream else "tear-down")
            closers.append(self)
            _answered.set(self)
        else:
            span.end()
        return response

    def __reduce__(self) -> tuple[Any, ...]:
        """A middleware around ours may pickle the response, to cache it: there is nothing to close then."""
        return partial, (list,)

    def __call__(self) -> None:
        """The response is being closed: where that is in its own context, receivers of request_finished
        are still the request's."""
        if requests.current() is self.span and self._is_wsgi:
            self._is_closed = True
            if self.span.phase != "tear-down":
                self.span.enter("tear-down")
        else:
            self.end()

    def finished(self) -> None:
        """Django says that a request is finished: this one, if its response is closed."""
        if self._is_closed:
            self.end()

    def end(self) -> None:
        if _answered.get() is self:
            _answered.set(None)
        self.span.end()


@lru_cache(2000)
def _name(method: str, route: str | None) -> str:
    return f"{method_name(method)} {route or NO_ROUTE}"


_answered: ContextVar[_Answering | None] = ContextVar("fastalloc_answered", default=None)
"""Whose response is ready and not yet closed."""


def _torn_down(**_: Any) -> None:
    answering = _answered.get()
    if answering is not None:
        answering.finished()
