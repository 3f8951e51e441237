"""What stands between an ASGI application and its server takes whatever passes, and shows in no traceback."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import traceback
import types
import warnings
import weakref
from collections import UserDict
from collections.abc import Coroutine

import pytest

from fastalloc import _core, requests
from fastalloc.integrations.asgi import ASGIMiddleware

START = {"type": "http.response.start", "status": 200, "headers": []}
BODY = {"type": "http.response.body", "body": b"x"}
WHOLE = [
    *(
        "serving",
        "+span GET (no route)",
        "+phase app",
        "-phase app",
        "+phase stream",
        "-phase stream",
    ),
    *("+phase background", "-phase background", "-span GET (no route)"),
]


class Text(str):
    __slots__ = ()


def http(**more) -> dict:
    return {"type": "http", "method": "GET", "path": "/a", "root_path": "", **more}


async def receive() -> dict:
    return {"type": "http.request", "body": b"", "more_body": False}


async def nothing(message) -> None: ...


def serve(app, scope=None, send=nothing, **options) -> None:
    asyncio.run(ASGIMiddleware(app, **options)(http() if scope is None else scope, receive, send))


async def answer(scope, receive, send) -> None:
    await send(START)
    await send(BODY)


def names_of(error: BaseException) -> list[str]:
    """The functions of a traceback from the application on."""
    names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    return names[names.index("app") :] if "app" in names else names


# --- odd things pass ---


@pytest.mark.parametrize(
    "message", [None, [], 7, {}, {"type": 7}, UserDict(START), {"type": Text("x")}]
)
def test_an_odd_message_reaches_the_server(recorded, message) -> None:
    seen = []

    async def send(message) -> None:
        seen.append(message)

    async def app(scope, receive, send) -> None:
        await send(message)

    serve(app, send=send)
    assert len(seen) == 1
    assert seen[0] is message


def test_messages_are_followed_in_whatever_mapping(recorded) -> None:
    async def app(scope, receive, send) -> None:
        await send(UserDict(START))
        await send({**BODY, "type": Text(BODY["type"])})

    serve(app, UserDict(http(type=Text("http"), method=Text("GET"))))
    assert recorded == WHOLE


def test_arguments_are_handed_on_as_they_are(recorded) -> None:
    async def app(scope, receive, send) -> None:
        await send(message=START)
        for arguments in ((), (1, 2)):
            with pytest.raises(TypeError, match=r"nothing\(\)"):
                await send(*arguments)
        with pytest.raises(TypeError, match="other"):
            await send(other=BODY)
        await send.__call__(BODY)

    serve(app)
    assert recorded == WHOLE


@pytest.mark.parametrize(
    "scope",
    [
        {},
        {"type": None},
        {"type": "http"},
        http(path=None),
        http(method=7),
        http(headers=7),
        {"type": "later"},
    ],
)
def test_an_odd_scope_is_served(recorded, monkeypatch, scope) -> None:
    monkeypatch.setattr(requests.request, "_prepared", True)
    _core.options_changed(True)
    served = []

    async def app(scope, receive, send) -> None:
        served.append(scope)
        await answer(scope, receive, send)

    serve(app, scope)
    _core.options_changed(False)
    assert len(served) == 1
    assert served[0] is scope


@pytest.mark.parametrize("status", [None, "odd", Text("200"), 3.5, object()])
def test_an_odd_status_is_sent(recorded, status) -> None:
    async def app(scope, receive, send) -> None:
        await send({**START, "status": status})
        await send(BODY)

    serve(app)
    assert recorded == WHOLE


def test_a_path_that_cannot_be_compared_costs_the_name_alone(recorded) -> None:
    class Odd(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other):
            raise RuntimeError("ours to bear")

        __ne__ = __eq__

    serve(answer, http(path=Odd("/a")), name=lambda scope: "GET /mine")
    assert "-span GET /mine" in recorded


@pytest.mark.parametrize("name", [Text("GET /mine"), "GET /mine"])
def test_a_name_may_be_any_text(recorded, name) -> None:
    serve(answer, name=lambda scope: name)
    assert recorded[-1] == "-span GET /mine"


# --- what the server's send may be ---


class Awaitable:
    def __await__(self):
        yield from asyncio.sleep(0).__await__()


@types.coroutine
def stepped(message):
    yield


def futures(message):
    return asyncio.ensure_future(asyncio.sleep(0))


@pytest.mark.parametrize("send", [nothing, lambda message: Awaitable(), futures])
def test_the_response_ends_when_the_server_has_sent(recorded, send) -> None:
    serve(answer, send=send)
    assert recorded == WHOLE


def test_a_generator_that_is_a_coroutine_is_awaited(recorded) -> None:
    serve(answer, send=stepped)
    assert recorded[-1] == "-span GET (no route)"


def test_until_the_server_has_sent_it_is_the_stream(recorded) -> None:
    phases = []

    async def send(message) -> None:
        phases.append(requests.current().phase)
        await asyncio.sleep(0)
        phases.append(requests.current().phase)

    async def app(scope, receive, send) -> None:
        await answer(scope, receive, send)
        phases.append(requests.current().phase)

    serve(app, send=send)
    assert phases == ["stream"] * 4 + ["background"]


def test_the_last_message_is_sent_by_a_coroutine(recorded) -> None:
    async def app(scope, receive, send) -> None:
        await send(START)
        last = send(BODY)
        assert asyncio.iscoroutine(last)
        assert isinstance(last, Coroutine)
        await asyncio.create_task(last)
        with pytest.raises(RuntimeError, match="already awaited"):
            await last

    serve(app)
    assert recorded[-1] == "-span GET (no route)"


def test_the_last_message_may_be_awaited_by_hand(recorded) -> None:
    class Sent:
        def __init__(self, last) -> None:
            self._last = last

        def __await__(self):
            return (yield from self._last.__await__())

    async def app(scope, receive, send) -> None:
        await send(START)
        await Sent(send(BODY))

    serve(app)
    assert recorded == WHOLE


class Awaited:
    """What a server gives that is no coroutine, and cannot be thrown into."""

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return None


def test_a_cancellation_reaches_what_cannot_be_thrown_into(recorded) -> None:
    def send(message):
        return Awaited() if message == BODY else nothing(message)

    async def app(scope, receive, send) -> None:
        await send(START)
        task = asyncio.create_task(send(BODY))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    serve(app, send=send)
    assert recorded[-1] == "-span GET (no route)"


def test_a_sending_made_by_hand_is_refused(recorded) -> None:
    kinds = []

    async def app(scope, receive, send) -> None:
        kinds.append(type(send))

    serve(app)
    sending = kinds[0]()
    with pytest.raises(TypeError, match=r"Opener\.begin"):
        sending(START)
    sending.end()
    sending.sent()


class Told(Exception):
    pass


def last_of(send, phases: list[str]):
    """The coroutine for the last message, in a request that is left open while the test steps it."""
    sending = ASGIMiddleware(answer)._opener.begin(http(), send)
    sending(START).close()
    phases.append(requests.current().phase)
    return sending, sending(BODY)


def test_a_coroutine_is_stepped_by_hand(recorded) -> None:
    phases: list[str] = []

    @types.coroutine
    def step(given):
        return (yield given)

    async def send(message):
        try:
            while await step("more") != "enough":
                pass
        except Told:
            return ("told", "twice")
        return ("sent", "once")

    for end, value in (("enough", ("sent", "once")), (Told(), ("told", "twice"))):
        sending, last = last_of(send, phases)
        assert last.send(None) == "more"
        assert last.send(None) == "more"
        with pytest.raises(StopIteration) as stopped:
            last.throw(end) if isinstance(end, Told) else last.send(end)
        assert stopped.value.value == value
        phases.append(requests.current().phase)
        sending.end()

        sending, last = last_of(send, phases)
        assert last.send(None) == "more"
        last.close()
        last.close()
        phases.append(requests.current().phase)
        sending.end()
    assert phases == ["stream", "background", "stream", "stream"] * 2


def test_throwing_needs_what_a_coroutine_needs(recorded) -> None:
    sending, last = last_of(nothing, [])
    with pytest.raises(TypeError):
        last.throw()
    last.close()
    with pytest.raises(TypeError):
        last.send()
    sending.end()


def test_a_last_message_that_nobody_awaits_is_warned_of(recorded) -> None:
    async def app(scope, receive, send) -> None:
        await send(START)
        send(BODY)

    with pytest.warns(RuntimeWarning, match="was never awaited"):
        serve(app)


# --- errors ---


def test_no_frame_of_ours_is_in_an_error_of_the_servers(recorded) -> None:
    async def fails(message) -> None:
        await asyncio.sleep(0)
        raise Told

    def fails_at_once(message) -> None:
        raise Told

    found = []

    async def app(scope, receive, send) -> None:
        for message in (START, {**BODY, "more_body": True}, BODY):
            try:
                await send(message)
            except Told as error:
                found.append(names_of(error))
        await send(BODY)

    for send in (fails, fails_at_once):
        with pytest.raises(Told) as caught:
            serve(app, send=send)
        assert found == [["app", send.__name__]] * 3
        assert names_of(caught.value) == ["app", send.__name__]
        found.clear()
    assert recorded[-1] == "-span GET (no route) Told"


def test_a_cancellation_passes_through_the_last_message(recorded) -> None:
    found = []

    async def hangs(message) -> None:
        if message is BODY:
            await asyncio.Event().wait()

    async def app(scope, receive, send) -> None:
        await send(START)
        try:
            await send(BODY)
        except asyncio.CancelledError as error:
            found.append(names_of(error))
            raise

    async def main() -> None:
        task = asyncio.ensure_future(ASGIMiddleware(app)(http(), receive, hangs))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert found == [["app", "hangs", "wait"]]
    assert recorded[-2:] == ["-phase stream", "-span GET (no route) CancelledError"]


def test_an_interrupt_while_a_route_is_asked_for_is_the_programs(recorded) -> None:
    class Route:
        @property
        def path(self):
            raise KeyboardInterrupt

    async def app(scope, receive, send) -> None:
        scope["route"] = Route()
        await send(START)

    async def main() -> None:
        with pytest.raises(KeyboardInterrupt) as caught:
            await ASGIMiddleware(app)(http(), receive, nothing)
        assert names_of(caught.value) == ["app", "path"]

    asyncio.run(main())
    assert recorded[-1] == "-span GET (no route) KeyboardInterrupt"


# --- what is left ---


def test_nothing_of_a_request_is_left(recorded) -> None:
    """Without the cyclic collector, too."""
    left = []

    class Answer(dict):
        pass

    async def app(scope, receive, send) -> None:
        start, body = Answer(START), Answer(BODY)
        left.extend([weakref.ref(start), weakref.ref(body)])
        await send(start)
        await send(body)

    gc.disable()
    try:
        serve(app)
        assert [reference() for reference in left] == [None, None]
    finally:
        gc.enable()


def test_a_request_that_is_never_ended_is_collected(recorded) -> None:
    class Scope(dict):
        pass

    def begun() -> weakref.ref:
        scope = Scope(http())
        scope["sending"] = ASGIMiddleware(answer)._opener.begin(scope, nothing)
        scope["last"] = scope["sending"](BODY)
        return weakref.ref(scope)

    reference = contextvars.copy_context().run(begun)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the last message was never awaited
        gc.collect()
    assert reference() is None
