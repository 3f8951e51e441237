"""WSGI: a request is a span, from the call of the application to the end of its response.

    application = WSGIMiddleware(application)

Any framework, any server. The span covers the whole response: it ends when the server calls
close() on it, as PEP 3333 says it must. In it, the phase "app" is the call of the application,
the phase "stream" the sending of the body.

What the server sees of the response stays what it was: its length where it has one, its
iterator itself (so no frame of ours per chunk), and a `wsgi.file_wrapper` object as the very
object, so that sendfile goes on working (the span ends there). Exceptions pass untouched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import fastalloc

from ._names import Names, method_name, route_of_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Environ = dict[str, Any]
    StartResponse = Callable[..., Any]
    Application = Callable[[Environ, StartResponse], Iterable[bytes]]

__all__ = ["WSGIMiddleware"]


class WSGIMiddleware:
    """Wraps a WSGI application so that each of its requests is a span.

    `name` gives a request's name from its environ. Without it the name is "METHOD route", the
    route being the framework's own where it leaves one in the environ (Flask, Bottle), or the
    path with its values taken out.
    """

    def __init__(self, app: Application, *, name: Callable[[Environ], str] | None = None) -> None:
        self._app = app
        self._name = name
        self._names = Names()
        self._serving = False

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if not self._serving:
            self._serving = True
            fastalloc.profiler.serving()
        named = self._given_name(environ)
        span = fastalloc.span(named or self._names.bounded(_name_of_path(environ)))
        span.__enter__()
        try:
            starting = start_response if named else self._starting(span, environ, start_response)
            with fastalloc.phase("app"):
                body = self._app(environ, starting)
        except BaseException as error:
            span.__exit__(type(error), error, error.__traceback__)
            raise
        return _with_span(body, span, environ.get("wsgi.file_wrapper"))

    def _given_name(self, environ: Environ) -> str | None:
        if self._name is None:
            return None
        try:
            return self._names.bounded(self._name(environ))
        except Exception:  # a name is not worth a request
            return None

    def _starting(
        self, span: Any, environ: Environ, start_response: StartResponse
    ) -> StartResponse:
        """start_response, which first looks for the route: Flask has tidied it away afterwards."""

        def start_response_named(*arguments: Any, **keywords: Any) -> Any:
            route = _route_left_behind(environ)
            if route:
                span.rename(self._names.bounded(f"{_method(environ)} {route}"))
            return start_response(*arguments, **keywords)

        return start_response_named


def _method(environ: Environ) -> str:
    return method_name(str(environ.get("REQUEST_METHOD", "")))


def _name_of_path(environ: Environ) -> str:
    path = f"{environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}"
    return f"{_method(environ)} {route_of_path(path or '/')}"


def _route_left_behind(environ: Environ) -> str | None:
    """The route template, where the framework has put it into the environ on its way."""
    matched = getattr(environ.get("werkzeug.request"), "url_rule", None)  # Flask
    route = getattr(matched or environ.get("bottle.route"), "rule", None)
    return route if isinstance(route, str) else None


class _Body:
    """The application's response, which ends the span when it is closed."""

    __slots__ = ("_body", "_phase", "_span")

    def __init__(self, body: Iterable[bytes], span: Any) -> None:
        self._body = body
        self._span = span
        self._phase: Any = None

    def __iter__(self) -> Iterator[bytes]:
        self._stream()
        return iter(self._body)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)

    def close(self) -> None:
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._end()

    def __del__(self) -> None:
        self._end()  # for servers that forget to close

    def _stream(self) -> None:
        if self._phase is None and self._span is not None:
            self._phase = fastalloc.phase("stream")
            self._phase.__enter__()

    def _end(self) -> None:
        phase, span = self._phase, self._span
        self._phase = self._span = None
        for scope in (phase, span):
            if scope is not None:
                scope.__exit__(None, None, None)


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
        return next(self._body)  # type: ignore[call-overload,no-any-return]  # made of an iterator


def _with_span(body: Iterable[bytes], span: Any, file_wrapper: Any) -> Iterable[bytes]:
    if isinstance(file_wrapper, type) and isinstance(body, file_wrapper):
        # The server knows its wrapper by the type, sends the file by itself, and may close it in
        # another thread: the application's part is over.
        span.__exit__(None, None, None)
        return body
    if hasattr(body, "__next__"):
        return _IteratorBody(body, span)
    if hasattr(body, "__len__"):
        return _SizedBody(body, span)
    return _Body(body, span)
