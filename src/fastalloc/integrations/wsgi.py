"""WSGI: a request is a span, from the call of the application to the end of its response.

    application = WSGIMiddleware(application)

Any framework, any server. The span covers the whole response: it ends when the server calls
close() on it, as PEP 3333 says it must. In it, the phase "app" is the call of the application,
the phase "stream" the sending of the body, the phase "tear-down" what the application does in close().

What the server sees of the response stays what it was: its length where it has one, its
iterator itself (so no frame of ours per chunk), and a `wsgi.file_wrapper` object as the very
object, so that sendfile goes on working (the span ends there). Exceptions pass untouched, and
their tracebacks do not show this module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastalloc import profiler, requests
from fastalloc.tracebacks import hide_frames

from ._names import NO_ROUTE, Names, unnamed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fastalloc.requests import Request

    Environ = dict[str, Any]
    StartResponse = Callable[..., Any]
    Application = Callable[[Environ, StartResponse], Iterable[bytes]]

__all__ = ["WSGIMiddleware"]


class WSGIMiddleware:
    """Wraps a WSGI application so that each of its requests is a span.

    `name` gives a request's name from its environ, before the application is called. Without it the
    name is "METHOD route" from where the response starts, the route being the framework's own where it
    leaves one in the environ (Flask, Bottle); else, and until then, "METHOD (no route)".
    """

    def __init__(self, app: Application, *, name: Callable[[Environ], str] | None = None) -> None:
        self._app = app
        self._name = name
        self._names = Names()
        self._serving = False
        requests.prepare()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if not self._serving:
            self._serving = True
            profiler.serving()
        named = self._given_name(environ)
        request = requests.begin(
            named or unnamed(_method(environ)),
            named=named is not None,
            token=environ.get("HTTP_X_FORCE_MEMORY_PROFILE"),
        )
        request.enter("app")
        try:
            body = self._app(environ, self._starting(request, environ, start_response, named))
        except BaseException as error:
            request.end(error)
            hide_frames(error)
            raise
        request.leave()
        return _with_request(body, request, environ.get("wsgi.file_wrapper"))

    def _given_name(self, environ: Environ) -> str | None:
        if self._name is None or not requests.active():
            return None
        try:
            return self._names.bounded(self._name(environ))
        except Exception:  # a name is not worth a request
            return None

    def _starting(
        self, request: Request, environ: Environ, start_response: StartResponse, named: str | None
    ) -> StartResponse:
        """start_response, which first looks for the route: Flask has tidied it away afterwards."""

        def start_response_noted(*arguments: Any, **keywords: Any) -> Any:
            request.status = _status(arguments, keywords)
            if named is None:
                route = _route_left_behind(environ) or NO_ROUTE
                request.rename(self._names.of(_method(environ), route))
            try:
                return start_response(*arguments, **keywords)
            except BaseException as error:
                hide_frames(error)
                raise

        return start_response_noted


def _method(environ: Environ) -> str:
    return str(environ.get("REQUEST_METHOD", ""))


def _status(arguments: tuple[Any, ...], keywords: dict[str, Any]) -> int:
    """The number in "200 OK"; 0 where there is none."""
    text = arguments[0] if arguments else keywords.get("status", "")
    number = text[:3] if isinstance(text, str) else ""
    return int(number) if number.isdecimal() else 0


def _route_left_behind(environ: Environ) -> str | None:
    """The route template, where the framework has put it into the environ on its way."""
    matched = getattr(environ.get("werkzeug.request"), "url_rule", None)  # Flask
    route = getattr(matched or environ.get("bottle.route"), "rule", None)
    return route if isinstance(route, str) else None


class _Body:
    """The application's response, which ends the request when it is closed."""

    __slots__ = ("_body", "_request")

    def __init__(self, body: Iterable[bytes], request: Request) -> None:
        self._body = body
        self._request: Request | None = request

    def __iter__(self) -> Iterator[bytes]:
        self._stream()
        try:
            return iter(self._body)
        except BaseException as error:
            hide_frames(error)
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)

    def close(self) -> None:
        close = getattr(self._body, "close", None)
        try:
            if close is not None:
                if self._request is not None:
                    self._request.enter("tear-down")
                close()
        except BaseException as error:
            self._end(error)
            hide_frames(error)
            raise
        self._end()

    def __del__(self) -> None:
        self._end()  # for servers that forget to close

    def _stream(self) -> None:
        request = self._request
        if request is not None and request.phase != "stream":
            request.enter("stream")

    def _end(self, error: BaseException | None = None) -> None:
        request, self._request = self._request, None
        if request is not None:
            request.end(error)


class _SizedBody(_Body):
    """Likewise of a response with a length, from which servers take a Content-Length."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(self._body)  # type: ignore[arg-type]  # only made of a body with a length


class _IteratorBody(_Body):
    """Likewise of a response that is its own iterator, which some middlewares step by hand."""

    __slots__ = ()

    def __next__(self) -> bytes:
        self._stream()
        try:
            return next(self._body)  # type: ignore[call-overload,no-any-return]  # an iterator
        except BaseException as error:
            hide_frames(error)
            raise


def _with_request(body: Iterable[bytes], request: Request, file_wrapper: Any) -> Iterable[bytes]:
    if isinstance(file_wrapper, type) and isinstance(body, file_wrapper):
        # The server knows its wrapper by the type, sends the file by itself, and may close it in
        # another thread: the application's part is over.
        request.end()
        return body
    if hasattr(body, "__next__"):
        return _IteratorBody(body, request)
    if hasattr(body, "__len__"):
        return _SizedBody(body, request)
    return _Body(body, request)
