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

from fastalloc import profiler, requests
from fastalloc.tracebacks import hide_frames

from ._names import UNNAMED, Names, unnamed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

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
        kind = type(self)
        plain = kind.name_taken, kind._route_taken
        self._opener = requests.Opener(
            self,
            requests.Request,
            UNNAMED,
            _send_last,
            names_ahead=name is not None or kind._name_ahead is not ASGIMiddleware._name_ahead,
            is_final=name is not None,
            reads_routes=plain == (ASGIMiddleware.name_taken, ASGIMiddleware._route_taken),
        )
        requests.prepare()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = self._opener.begin(scope, send)
        app = self._app  # called as a method it would be looked for in the class first
        if sending is None:
            try:
                await app(scope, receive, _unrecorded(scope, send))
            except BaseException as error:
                hide_frames(error)
                raise
            return
        try:
            await app(scope, receive, sending)
        except BaseException as error:
            sending.end(error)
            hide_frames(error)
            raise
        sending.end()

    # --- what the core asks for, where it does not know by itself ---

    def _begin_serving(self) -> None:
        profiler.serving()

    def _prepare(self) -> None:
        requests.prepare()

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
        return self._names.of(method_of(scope), route) if route else None

    def _route_taken(self, scope: Scope, path: str, root: str) -> str | None:
        return route_left_behind(scope, root)

    def _unnamed(self, scope: Scope) -> str:
        return unnamed(method_of(scope))

    def _token(self, scope: Scope) -> str | None:
        for name, value in scope.get("headers", ()):
            if name == TOKEN_HEADER:
                return bytes(value).decode("latin-1")
        return None


async def _send_last(sending: requests.Sending, message: Message) -> Any:
    try:
        sent = await sending.send(message)
        sending.sent()
        return sent
    except BaseException as error:
        hide_frames(error)
        raise


def method_of(scope: Scope) -> str:
    """The method of an HTTP request, as it came; "WEBSOCKET" of a connection."""
    return str(scope.get("method", "WEBSOCKET"))


def _unrecorded(scope: Scope, send: Send) -> Send:
    """`send` of what is no request, or of one that is not recorded."""
    try:
        return send if scope["type"] in ("http", "websocket") else _watching_lifespan(send)
    except Exception:  # an odd scope: the application says so
        return send


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
