"""ASGI: a request is a span, from the call of the application to its return.

    application = ASGIMiddleware(application)

Any framework, any server; HTTP requests and websocket connections are spans, the lifespan
passes through. Phases of a request: "app" until the response starts, "stream" while it is sent,
"background" what the application does after that. (Where another task than the application's sends the
response, "stream" is inside "app", and there is no "background".)

`scope` and `receive` are handed on as they are, `send` with a look at each message. Exceptions pass
untouched, and their tracebacks do not show this module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import fastalloc
from fastalloc import profiler, requests
from fastalloc.tracebacks import hide_frames

from ._names import NO_ROUTE, Names, method_name

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from fastalloc.requests import Request

    Message = MutableMapping[str, Any]
    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    Application = Callable[[Scope, Receive, Send], Awaitable[None]]

__all__ = ["ASGIMiddleware"]

TOKEN_HEADER = b"x-force-memory-profile"


class ASGIMiddleware:
    """Wraps an ASGI application so that each of its requests is a span.

    `name` gives a request's name from its scope, before the application is called. Without it the name is
    "METHOD route" once the application's router has left its route in the scope (FastAPI, Starlette); else,
    and until then, "METHOD (no route)".
    """

    def __init__(self, app: Application, *, name: Callable[[Scope], str] | None = None) -> None:
        self._app = app
        self._name = name
        self._names = Names()
        self._serving = False
        requests.prepare()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_request = scope["type"] in ("http", "websocket")
        if is_request and not self._serving:
            self._serving = True
            profiler.serving()
        if not is_request or not requests.active():
            try:
                await self._app(scope, receive, send if is_request else _watching_lifespan(send))
            except BaseException as error:
                hide_frames(error)
                raise
            return
        name = self._name_ahead(scope)
        request = requests.begin(
            name or f"{method_of(scope)} {NO_ROUTE}",
            kind=scope["type"],
            token=_token(scope) if requests.takes_tokens() else None,
            named=name is not None,
            route_of=None if name is not None else self._follow(scope),
        )
        request.enter("app")
        is_final = self._name is not None and name is not None
        sending = _Sending(self, request, scope, send, name is not None, is_final)
        try:
            await self._app(scope, receive, sending)
        except BaseException as error:
            sending.end()
            request.end(error)
            hide_frames(error)
            raise
        sending.end()
        request.end()

    def _name_ahead(self, scope: Scope) -> str | None:
        """The request's name before the application is called; None where it cannot be told. It holds as
        long as the scope's path is the same, and a name that is given stays."""
        if self._name is None:
            return None
        try:
            return self._names.bounded(self._name(scope)) or None
        except Exception:  # a name is not worth a request
            return None

    def name_taken(self, scope: Scope, path: str, root: str) -> str | None:
        """The request's name once the application answers, by the route that it has taken; None while, or
        where, that cannot be told. path, root: the scope's, when the request began."""
        try:
            route = self._route_taken(scope, path, root)
        except Exception:  # whatever is in there, it is not worth a request
            return None
        return self._names.bounded(f"{method_of(scope)} {route}") if route else None

    def _route_taken(self, scope: Scope, path: str, root: str) -> str | None:
        return route_left_behind(scope, root)

    def _follow(self, scope: Scope) -> Callable[[], str | None]:
        path, root = scope.get("path", ""), scope.get("root_path", "")
        return lambda: self.name_taken(scope, path, root)


def method_of(scope: Scope) -> str:
    """The method of an HTTP request; "WEBSOCKET" of a connection."""
    return method_name(str(scope.get("method", "WEBSOCKET")))


def _watching_lifespan(send: Send) -> Send:
    """`send`, after a look at what the application says of its life."""

    def send_watched(message: Message) -> Awaitable[None]:
        kind = message.get("type")
        if kind == "lifespan.startup.complete":
            profiler.serving()
        elif kind == "lifespan.shutdown.complete":
            requests.flush()
            profiler.ending("clean")  # uvicorn then ends itself by the signal it was sent
        return send(message)

    return send_watched


class _Sending:
    """`send` of one request, which looks at each message on its way.

    A phase belongs to one context, and so to one task. Where another task than the application's sends the
    response (as Starlette's streams and Django do), "stream" is a phase inside "app", in that task.
    """

    __slots__ = (
        "_context",
        "_inner",
        "_inner_context",
        "_is_named",
        "_middleware",
        "_path",
        "_request",
        "_root",
        "_routing",
        "_scope",
        "_send",
    )

    def __init__(
        self,
        middleware: ASGIMiddleware,
        request: Request,
        scope: Scope,
        send: Send,
        is_named: bool,
        is_final: bool,
    ) -> None:
        """is_named: by what its path tells. is_final: whatever becomes of that."""
        self._middleware = middleware
        self._request = request
        self._scope = scope
        self._send = send
        self._is_named = is_named
        self._routing = not is_final  # to be asked for, once
        self._path, self._root = scope.get("path", ""), scope.get("root_path", "")
        self._context = requests.context_number()
        self._inner: fastalloc.phase | None = None

    def __call__(self, message: Message) -> Awaitable[None]:
        """No coroutine of our own but for the last message: nothing of ours is on the stack while the
        server sends."""
        kind = message.get("type")
        if kind == "http.response.body":
            return self._send(message) if message.get("more_body") else self._send_last(message)
        if kind == "http.response.start":
            self._request.status = message.get("status", 0)
            if self._routing:
                self._routed()
            if self._context == requests.context_number():
                self._request.enter("stream")
            elif self._inner is None:
                self._inner_context = requests.context_number()
                self._inner = fastalloc.phase("stream")
                self._inner.__enter__()
        elif kind == "websocket.accept" and self._routing:
            self._routed()
        elif kind == "websocket.close":
            self._request.status = message.get("code", 1000)
        return self._send(message)

    def _routed(self) -> None:
        """The application answers, so its router has left the route behind."""
        self._routing = False
        if not self._is_named or self._scope.get("path", "") != self._path:
            name = self._middleware.name_taken(self._scope, self._path, self._root)
            self._request.rename(name or self._request.name)

    async def _send_last(self, message: Message) -> None:
        try:
            await self._send(message)
        except BaseException as error:
            hide_frames(error)
            raise
        here = requests.context_number()
        if self._inner is not None and self._inner_context == here:
            self._leave_inner()
        elif self._context == here and self._request.phase == "stream":
            self._request.enter("background")

    def end(self) -> None:
        """The response is complete, or will never be."""
        if self._routing:
            self._routed()
        if self._inner is not None:
            self._leave_inner()

    def _leave_inner(self) -> None:
        inner, self._inner = self._inner, None
        if inner is not None:
            inner.__exit__(None, None, None)


def _token(scope: Scope) -> str | None:
    for name, value in scope.get("headers", ()):
        if name == TOKEN_HEADER:
            return bytes(value).decode("latin-1")
    return None


def route_left_behind(scope: Scope, root: str) -> str | None:
    """The route template, where the framework's router has put it into the scope on its way.

    `root` is the scope's root_path before the call. Below a mount (which has lengthened it) the template
    is the mounted application's own: "(mount)/items/{item}"; the path up to there may hold values.
    """
    template = getattr(scope.get("route"), "path", None)
    if not isinstance(template, str):
        return None
    is_mounted = "app_root_path" in scope and scope.get("root_path", "") != root
    return f"(mount){template}" if is_mounted else template
