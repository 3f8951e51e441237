"""ASGI: a request is a span, from the call of the application to its return.

    application = ASGIMiddleware(application)

Any framework, any server; HTTP requests and websocket connections are spans, the lifespan
passes through. Phases of a request: "app" until the response starts, "stream" while it is sent,
"background" what the application does after that. (Where the response is sent by another task than
the one that called us, as Django's is, all of it is "app".)

`scope` and `receive` are handed on as they are, `send` with a look at each message. Exceptions pass
untouched, and their tracebacks do not show this module.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from fastalloc import profiler, requests

from ._names import Names, method_name, route_of_path
from ._tracebacks import hide_frames

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
            try:
                await self._app(scope, receive, send)
            except BaseException as error:
                hide_frames(error)
                raise
            return
        if not self._serving:
            self._serving = True
            profiler.serving()
        named = self._given_name(scope)
        root = str(scope.get("root_path", ""))

        def name_of_route() -> str | None:
            try:
                route = self._route(scope, root)
            except Exception:  # whatever is in there, it is not worth a request
                return None
            return self._names.bounded(f"{_method(scope)} {route}") if route else None

        request = requests.begin(
            named or self._names.bounded(_name_of_path(scope)),
            kind=scope["type"],
            token=_token(scope) if profiler.option("token_secret") else None,
            route_of=None if named else name_of_route,
        )
        request.enter("app")
        try:
            await self._app(scope, receive, _noting(request, send))
        except BaseException as error:
            request.rename((not named and name_of_route()) or request.name)
            request.end(error)
            hide_frames(error)
            raise
        request.rename((not named and name_of_route()) or request.name)
        request.end()

    def _route(self, scope: Scope, root: str) -> str | None:
        return route_left_behind(scope, root)

    def _given_name(self, scope: Scope) -> str | None:
        if self._name is None:
            return None
        try:
            return self._names.bounded(self._name(scope))
        except Exception:  # a name is not worth a request
            return None


def _noting(request: Request, send: Send) -> Send:
    """`send`, after a look at the message. No coroutine of its own: nothing of ours is on the stack
    while the server sends."""
    task = _task()

    def send_noted(message: Message) -> Awaitable[None]:
        kind = message.get("type")
        if kind == "http.response.start":
            request.status = message.get("status", 0)
            if _task() is task:
                request.enter("stream")
        elif kind == "http.response.body":
            if not message.get("more_body") and request.phase == "stream" and _task() is task:
                return _then(send(message), request)
        elif kind == "websocket.close":
            request.status = message.get("code", 1000)
        return send(message)

    return send_noted


async def _then(sending: Awaitable[None], request: Request) -> None:
    """Send the last part of a response; what comes after it is the background."""
    try:
        await sending
    except BaseException as error:
        hide_frames(error)
        raise
    request.enter("background")


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


def _name_of_path(scope: Scope) -> str:
    return f"{_method(scope)} {route_of_path(str(scope.get('path', '/')))}"


def route_left_behind(scope: Scope, root: str) -> str | None:
    """The route template, where the framework's router has put it into the scope on its way.

    `root` is the scope's root_path before the call: what a router has added to it since is where
    the application that knows the route is mounted.
    """
    parameters = scope.get("path_params")
    names: dict[str, str] = {}
    if isinstance(parameters, dict):
        names = {str(value): str(name) for name, value in parameters.items()}
    route = scope.get("route")
    template = getattr(route, "path", None)
    if isinstance(template, str):
        mounted = str(scope.get("root_path", "")).removeprefix(root)
        if hasattr(
            route, "routes"
        ):  # a mount, whose own path is in root_path; what is below is unknown
            below = str(scope.get("path", "")).removeprefix(f"{root}{mounted}")
            return _template(mounted, names) + route_of_path(below)
        return _template(mounted, names) + template
    if not names:
        return None
    path = str(scope.get("path", "/"))
    if names.keys() - set(path.split("/")):  # a parameter that spans segments, or was converted
        return None
    return _template(path, names)


def _template(path: str, names: dict[str, str]) -> str:
    """`path` with the parameters' names in place of their values."""
    return "/".join(
        f"{{{names[part]}}}" if part in names else route_of_path(part) for part in path.split("/")
    )
