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

import sys
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
        if scope["type"] not in ("http", "websocket"):
            try:
                await self._app(scope, receive, _watching_lifespan(send))
            except BaseException as error:
                hide_frames(error)
                raise
            return
        if not self._serving:
            self._serving = True
            profiler.serving()
        named = self._given_name(scope)
        name_of_route = None if self._name is not None and named else self._follow(scope)
        request = requests.begin(
            named or f"{_method(scope)} {NO_ROUTE}",
            kind=scope["type"],
            token=_token(scope) if profiler.option("token_secret") else None,
            named=named is not None,
            route_of=name_of_route,
        )
        request.enter("app")
        sending = _Sending(request, send, name_of_route)
        try:
            await self._app(scope, receive, sending)
        except BaseException as error:
            sending.end()
            request.end(error)
            hide_frames(error)
            raise
        sending.end()
        request.end()

    def _route_ahead(self, scope: Scope) -> str | None:
        """The route that the application will take; None where that cannot be told."""
        return None

    def _route_taken(self, scope: Scope, path: str, root: str) -> str | None:
        """The route that the application has taken; None while that cannot be told. path, root: the
        scope's, when the request began."""
        return route_left_behind(scope, root)

    def _given_name(self, scope: Scope) -> str | None:
        if not requests.active():
            return None
        try:
            if self._name is not None:
                return self._names.bounded(self._name(scope))
            return self._bounded(scope, self._route_ahead(scope))
        except Exception:  # a name is not worth a request
            return None

    def _bounded(self, scope: Scope, route: str | None) -> str | None:
        return self._names.bounded(f"{_method(scope)} {route}") if route else None

    def _follow(self, scope: Scope) -> Callable[[], str | None]:
        """What tells the name once the application has taken its route."""
        path, root = str(scope.get("path", "")), str(scope.get("root_path", ""))

        def name_of_route() -> str | None:
            try:
                return self._bounded(scope, self._route_taken(scope, path, root))
            except Exception:  # whatever is in there, it is not worth a request
                return None

        return name_of_route


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

    A phase belongs to the context of one task. Where another task than the application's sends the
    response (as Starlette's streams and Django do), "stream" is a phase inside "app", in that task.
    """

    __slots__ = ("_inner", "_name_of_route", "_request", "_send", "_task")

    def __init__(
        self, request: Request, send: Send, name_of_route: Callable[[], str | None] | None
    ) -> None:
        self._request = request
        self._send = send
        self._name_of_route = name_of_route
        self._task = _task()
        self._inner: tuple[Any, Any] | None = None  # task, phase

    def __call__(self, message: Message) -> Awaitable[None]:
        """No coroutine of our own but for the last message: nothing of ours is on the stack while the
        server sends."""
        kind = message.get("type")
        if kind == "http.response.start":
            self._request.status = message.get("status", 0)
            self._routed()
            self._start(_task())
        elif kind == "http.response.body":
            if not message.get("more_body"):
                return self._send_last(message)
        elif kind == "websocket.accept":
            self._routed()
        elif kind == "websocket.close":
            self._request.status = message.get("code", 1000)
        return self._send(message)

    def _routed(self) -> None:
        """The application answers, so its router has left the route behind."""
        if self._name_of_route is not None:
            self._request.rename(self._name_of_route() or self._request.name)
            self._name_of_route = None

    def _start(self, task: Any) -> None:
        if task is self._task:
            self._request.enter("stream")
        elif self._inner is None:
            phase = fastalloc.phase("stream")
            phase.__enter__()
            self._inner = task, phase

    async def _send_last(self, message: Message) -> None:
        try:
            await self._send(message)
        except BaseException as error:
            hide_frames(error)
            raise
        task = _task()
        if self._inner is not None and self._inner[0] is task:
            self._leave_inner()
        elif task is self._task and self._request.phase == "stream":
            self._request.enter("background")

    def end(self) -> None:
        """The response is complete, or will never be."""
        self._routed()
        self._leave_inner()

    def _leave_inner(self) -> None:
        inner, self._inner = self._inner, None
        if inner is not None:
            inner[1].__exit__(None, None, None)


def _task() -> Any:
    """The running task of asyncio, or None in other loops: phases belong to the context of one task."""
    asyncio = sys.modules.get("asyncio.tasks")
    try:
        return asyncio.current_task() if asyncio is not None else None
    except RuntimeError:
        return None


def _token(scope: Scope) -> str | None:
    for name, value in scope.get("headers", ()):
        if name == TOKEN_HEADER:
            return bytes(value).decode("latin-1")
    return None


def _method(scope: Scope) -> str:
    return method_name(str(scope.get("method", "WEBSOCKET")))


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
