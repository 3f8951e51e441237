"""The WSGI middleware against wsgiref's own validator, and against odd responses."""

from __future__ import annotations

import io
import threading
import urllib.request
from types import SimpleNamespace
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import pytest

from fastalloc.integrations.wsgi import WSGIMiddleware

WHOLE = [
    *("+span GET (no route)", "+phase app", "-phase app", "+phase stream", "-phase stream"),
    "-span GET (no route)",
]


def environ(path: str = "/", **more) -> dict:
    result: dict = {"PATH_INFO": path}
    setup_testing_defaults(result)
    return result | more


def start_response(status, headers, exc_info=None):
    return lambda data: None


def answering(body):
    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return body

    return app


def consume(app, request: dict) -> bytes:
    body = app(request, start_response)
    try:
        return b"".join(body)
    finally:
        body.close()


def test_the_span_covers_the_whole_response(scopes) -> None:
    assert consume(WSGIMiddleware(answering([b"a", b"b"])), environ()) == b"ab"
    assert scopes == ["serving", *WHOLE]


def test_serving_is_marked_once(scopes) -> None:
    app = WSGIMiddleware(answering([b""]))
    consume(app, environ())
    consume(app, environ())
    assert scopes.count("serving") == 1


def test_a_generator_runs_inside_the_span(scopes) -> None:
    def app(environ, start_response):
        start_response("200 OK", [])
        yield b"one"
        scopes.append("between")
        yield b"two"

    assert consume(WSGIMiddleware(app), environ()) == b"onetwo"
    closed = ["+phase tear-down", "-phase tear-down"]
    assert scopes == ["serving", *WHOLE[:4], "between", WHOLE[4], *closed, WHOLE[5]]


def test_an_unread_response_is_closed_without_a_stream_phase(scopes) -> None:
    WSGIMiddleware(answering([b"a"]))(environ(), start_response).close()
    assert scopes == ["serving", *WHOLE[:3], WHOLE[-1]]


def test_closing_twice_ends_once(scopes) -> None:
    body = WSGIMiddleware(answering([b"a"]))(environ(), start_response)
    body.close()
    body.close()
    assert scopes.count("-span GET (no route)") == 1


def test_the_response_is_closed_before_the_span_ends(scopes) -> None:
    class Body(list):
        def close(self) -> None:
            scopes.append("closed")

    consume(WSGIMiddleware(answering(Body([b"a"]))), environ())
    assert scopes[-5:] == [
        *("-phase stream", "+phase tear-down", "closed", "-phase tear-down"),
        "-span GET (no route)",
    ]


def test_an_error_in_close_passes_and_the_span_ends(scopes) -> None:
    class Body(list):
        def close(self) -> None:
            raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        consume(WSGIMiddleware(answering(Body())), environ())
    assert scopes[-1] == "-span GET (no route) OSError"


def test_an_error_of_the_application_passes_untouched(scopes) -> None:
    error = LookupError("theirs")

    def app(environ, start_response):
        raise error

    with pytest.raises(LookupError) as caught:
        WSGIMiddleware(app)(environ(), start_response)
    assert caught.value is error
    assert error.__cause__ is None
    assert error.__context__ is None
    assert scopes[-1] == "-span GET (no route) LookupError"


def test_an_error_while_streaming_passes_untouched(scopes) -> None:
    def app(environ, start_response):
        yield b"one"
        raise LookupError("theirs")

    with pytest.raises(LookupError):
        consume(WSGIMiddleware(app), environ())
    assert scopes[-1] == "-span GET (no route)"


@pytest.mark.parametrize("body", [[b"a", b"b"], (b"a",)])
def test_a_length_stays(scopes, body) -> None:
    wrapped = WSGIMiddleware(answering(body))(environ(), start_response)
    assert len(wrapped) == len(body)


def test_no_length_is_invented(scopes) -> None:
    wrapped = WSGIMiddleware(answering(iter([b"a"])))(environ(), start_response)
    with pytest.raises(TypeError):
        len(wrapped)


def test_an_iterator_can_be_stepped_by_hand(scopes) -> None:
    wrapped = WSGIMiddleware(answering(iter([b"a", b"b"])))(environ(), start_response)
    assert next(wrapped) == b"a"
    assert list(wrapped) == [b"b"]
    wrapped.close()
    assert scopes == ["serving", *WHOLE]


def test_other_attributes_of_the_response_show_through(scopes) -> None:
    class Body(list):
        status_code = 204

    wrapped = WSGIMiddleware(answering(Body()))(environ(), start_response)
    assert wrapped.status_code == 204
    assert not hasattr(wrapped, "headers")


def test_the_servers_file_wrapper_stays_the_very_object(scopes) -> None:
    file = io.BytesIO(b"contents")
    wrapper = FileWrapper(file)
    request = environ(**{"wsgi.file_wrapper": FileWrapper})
    body = WSGIMiddleware(answering(wrapper))(request, start_response)
    assert body is wrapper
    assert scopes[-1] == "-span GET (no route)"
    body.close()
    assert file.closed


def test_a_response_that_is_forgotten_ends_its_span(scopes) -> None:
    list(WSGIMiddleware(answering([b"a"]))(environ(), start_response))
    assert scopes == ["serving", *WHOLE]


def test_a_given_name_is_used(scopes) -> None:
    consume(WSGIMiddleware(answering([]), name=lambda environ: "GET /mine"), environ("/1/"))
    assert "+span GET /mine" in scopes


def test_a_naming_error_costs_only_the_name(scopes) -> None:
    consume(WSGIMiddleware(answering([]), name=lambda environ: 1 / 0), environ("/orders/1/"))
    assert "+span GET (no route)" in scopes


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("werkzeug.request", SimpleNamespace(url_rule=SimpleNamespace(rule="/o/<int:n>"))),
        ("bottle.route", SimpleNamespace(rule="/o/<int:n>")),
    ],
)
def test_the_frameworks_route_is_found_afterwards(scopes, key, value) -> None:
    def app(environ, start_response):
        environ[key] = value
        start_response("200 OK", [])
        environ[key] = None
        return []

    consume(WSGIMiddleware(app), environ("/o/3"))
    assert scopes[-1] == "-span GET /o/<int:n>"


def test_a_broken_framework_object_costs_only_the_name(scopes) -> None:
    consume(WSGIMiddleware(answering([])), environ("/o/3", **{"bottle.route": 7}))
    assert scopes[-1] == "-span GET (no route)"
    consume(WSGIMiddleware(answering([])), environ("/o/3", **{"werkzeug.request": b""}))
    assert scopes[-1] == "-span GET (no route)"


def test_wsgirefs_validator_and_server_are_content(scopes) -> None:
    app = validator(WSGIMiddleware(validator(answering([b"hello"]))))

    class Quiet(WSGIRequestHandler):
        def log_message(self, *args) -> None: ...

    with make_server("127.0.0.1", 0, app, handler_class=Quiet) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/orders/5/"
        with urllib.request.urlopen(url, timeout=10) as response:
            assert response.read() == b"hello"
            # One block of known length: wsgiref can tell the client how long it is.
            assert response.headers.get("Content-Type") == "text/plain"
        thread.join()
    assert "+span GET (no route)" in scopes
    assert scopes[-1] == "-span GET (no route)"
