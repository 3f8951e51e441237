"""Spans and phases as context managers and decorators, and what keeps them exact.

A scope (an open span or phase) belongs to a context (`contextvars`). Whatever switches contexts on
a thread must be told to the core, so that each allocation counts for the right scope:

- Python 3.14 on: a context watcher tells of every switch that goes through the interpreter.
- asyncio before that: what its own event loops run is wrapped (`Handle._run`), callbacks and tasks
  alike; the tasks of any loop are told by a dict watcher on asyncio's note of running tasks (3.12 on).
- uvloop on 3.11: what its loop is asked to call is wrapped.
- thread pools before that: work items that run a context (`asyncio.to_thread`) are wrapped, and what
  anyio's and asgiref's threads are handed.
- asgiref carries a context's values from thread to thread and back: where it has, the thread looks.
- greenlets: greenlet's own trace function.
- whatever else runs code in another context: each sample reads the running context
  itself, so samples are right, and the exact counters catch up at the next sample.
"""

from __future__ import annotations

import sys
from contextvars import Context

try:
    from fastalloc import _core
    from fastalloc._core import Phase, Span
except ImportError:
    from fastalloc.inactive import Phase, Span  # type: ignore[assignment]

    _core = None  # type: ignore[assignment]

from fastalloc.breaker import Breaker
from fastalloc.tracebacks import hide_catch, hide_frames

TYPE_CHECKING = False  # the capture wing does without typing at run time: it takes 5 ms to import
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from typing import Any, TypeVar

    Function = TypeVar("Function", bound=Callable[..., Any])

_breaker = Breaker("context switches")


class span(Span):
    """One unit of work: a request, a task, a job. Everything allocated in it counts for it.

        with fastalloc.span("GET /orders/", user_count=3) as current:
            ...
            current.rename("GET /orders/{id}/")

        @fastalloc.span("import_orders")
        async def import_orders(): ...

    name: a route template or task name, never a raw path: the recording keeps some 1,000 names.
    attributes: shown with the span as `key=value`, 127 bytes in all. They are written to disk as
    they are: give no secrets.

    As a decorator: a new span at each call, of functions, coroutine functions, generators and
    async generators alike (there, only their own steps count).

    A `with` around a `yield`, in the body of a generator, lasts until the generator leaves it: what its
    consumer does in between counts for it as well. So it must for `contextlib.contextmanager`; a generator
    whose own steps shall count is decorated.

    Nests; an inner span has the outer one as its parent. Exact across threads, asyncio tasks and
    greenlets: child tasks inherit it with their context. Costs well under 1 us at each side, and
    nothing when recording is off. Never raises.
    """

    __slots__ = ()

    if TYPE_CHECKING:

        def __call__(self, function: Function) -> Function: ...

    else:

        def __call__(self, *args, **kwargs):
            function = _function_to_decorate(self, args, kwargs)
            name, attributes = self.name, self.attributes
            return _decorate(function, lambda: span(name, **attributes))


class phase(Phase):
    """A named stretch of a span, or of the process outside all spans.

        with fastalloc.phase("render"):
            ...

    The recording keeps exact allocation counts and bytes for each (span name, phase name), and a
    record of each finished phase: duration, allocations, change of the live heap, RSS. Also a
    decorator, like `span`. Costs well under 1 us at each side. Never raises.
    """

    __slots__ = ()

    if TYPE_CHECKING:

        def __call__(self, function: Function) -> Function: ...

    else:

        def __call__(self, *args, **kwargs):
            function = _function_to_decorate(self, args, kwargs)
            name = self.name
            return _decorate(function, lambda: phase(name))


def context_number() -> int:
    """Tells the running context from others that exist now: a phase belongs to one. 0.1 us."""
    return _core.context_number() if _core is not None else 0


def checkpoint(name: str) -> None:
    """Record an instant: time, the span's allocations so far, live heap, RSS, cgroup usage.

    Costs 2 to 5 us, most of it reading RSS. Never raises.
    """
    if _core is not None:
        name = _core.name_of(name)
        _core.checkpoint(name)
        request: Any = _core.current_request()
        if request is not None:
            request.passed(name)


def _function_to_decorate(
    scope: span | phase, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Callable[..., Any]:
    """The one argument. TypeError, with what to write, for a decorator without parentheses: it was only
    named by the function, which is called now."""
    kind = type(scope).__name__
    if scope.named_by_function:
        raise TypeError(
            f'{scope.name} is a {kind} here, not a function: write @fastalloc.{kind}("a name") above it'
        )
    if len(args) != 1 or kwargs or not callable(args[0]):
        raise TypeError(f"a {kind} is called with the function that it decorates, and nothing else")
    function: Callable[..., Any] = args[0]
    return function


def _decorate(function: Function, make: Callable[[], _core.Scope]) -> Function:
    import functools
    import inspect

    wrapper: Any
    if inspect.isasyncgenfunction(function):

        async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            steps = function(*args, **kwargs)
            with make() as scope:
                step = steps.__anext__()
                try:
                    while True:
                        try:
                            item = await step
                        except StopAsyncIteration:
                            return
                        scope.suspend()
                        try:
                            sent = yield item
                        except GeneratorExit:
                            scope.resume()
                            await steps.aclose()
                            raise
                        except BaseException as error:
                            scope.resume()
                            step = steps.athrow(hide_catch(error))
                        else:
                            scope.resume()
                            step = steps.asend(sent)
                except BaseException as error:
                    hide_frames(error)
                    raise
                finally:
                    await steps.aclose()

    elif inspect.isgeneratorfunction(function):

        def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            steps = function(*args, **kwargs)
            with make() as scope:
                step, argument = steps.send, None
                while True:
                    try:
                        item = step(argument)
                    except StopIteration as stop:
                        return stop.value
                    except BaseException as error:
                        hide_frames(error)
                        raise
                    scope.suspend()
                    try:
                        argument = yield item
                        step = steps.send
                    except GeneratorExit:
                        scope.resume()
                        steps.close()
                        raise
                    except BaseException as error:
                        step, argument = steps.throw, hide_catch(error)
                    scope.resume()

    elif inspect.iscoroutinefunction(function):

        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            try:
                with make():
                    return await function(*args, **kwargs)
            except BaseException as error:
                hide_frames(error)
                raise

    else:

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            try:
                with make():
                    return function(*args, **kwargs)
            except BaseException as error:
                hide_frames(error)
                raise

    return functools.wraps(function)(wrapper)  # type: ignore[return-value]


# --- what switches contexts -----------------------------------------------------------------------


def watch_switches() -> None:
    """Follow asyncio and greenlets from the first scope on at which they are imported."""
    _core.set_switch_watcher(_Watcher())


class _Watcher:
    """Called before scopes open. False: all that is imported is watched. None: look again at the next scope."""

    def __init__(self) -> None:
        watched = _core.watch_contexts()
        self.asyncio_watched = self.executors_watched = self.anyio_watched = watched
        self.uvloop_watched = sys.version_info >= (3, 12)
        self.asgiref_watched = False

    def __call__(self) -> bool | None:
        looked: bool | None = _breaker.call(self._look)
        return looked

    def _look(self) -> bool | None:
        modules = sys.modules
        if not self.asyncio_watched and "asyncio.events" in modules and "asyncio.tasks" in modules:
            self.asyncio_watched = True
            _watch_asyncio(modules["asyncio.events"], modules["asyncio.tasks"])
        if not self.uvloop_watched and "uvloop" in modules:
            self.uvloop_watched = _watch_uvloop(modules["uvloop"])
        if not self.executors_watched and "concurrent.futures.thread" in modules:
            self.executors_watched = True
            _watch_executors(modules["concurrent.futures.thread"])
        if not self.anyio_watched and "anyio.to_thread" in modules:
            self.anyio_watched = True
            _watch_anyio(modules["anyio.to_thread"])
        if not self.asgiref_watched and "asgiref.sync" in modules:
            self.asgiref_watched = _watch_asgiref(modules["asgiref.sync"])
        if "greenlet" in modules:  # in each thread
            _trace_greenlets(modules["greenlet"])
            return None
        half_imported = "uvloop" in modules and not self.uvloop_watched
        half_imported |= "asgiref.sync" in modules and not self.asgiref_watched
        return None if half_imported else False


def _watch_asyncio(events: Any, tasks: Any) -> None:
    """The note of running tasks tells of all tasks, whatever loop drives them (from 3.12); handles tell
    of all that asyncio's own loops run, callbacks too."""
    running = getattr(tasks, "_current_tasks", None)
    if type(running) is dict:
        _core.watch_tasks(running)
    handle = events.Handle
    if handle._run is not _core.run_handle:
        _core.set_handle_run(handle._run)
        handle._run = _core.run_handle
    import concurrent.futures.thread  # noqa: F401  (asyncio would import it at the first use)


def _watch_uvloop(uvloop: Any) -> bool:
    """On 3.11, where nothing tells of its tasks: tasks and callbacks alike ask the loop to call them
    soon. False: it is half imported."""
    loop = getattr(uvloop, "Loop", None)
    if loop is None:
        return False
    for name, before in (
        ("call_soon", 0),
        ("call_soon_threadsafe", 0),
        ("call_later", 1),
        ("call_at", 1),
    ):
        original = getattr(loop, name)
        if not getattr(original, "fastalloc_wrapped", False):
            setattr(loop, name, _calls_as_steps(original, before))
    return True


def _calls_as_steps(original: Any, before: int) -> Any:
    """A loop's method whose callback comes after `before` other arguments."""

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if len(args) <= before:  # a callback by keyword, or a mistake
            return original(self, *args, **kwargs)
        callback = _Step(args[before])
        return original(self, *args[:before], callback, *args[before + 1 :], **kwargs)

    method.fastalloc_wrapped = True  # type: ignore[attr-defined]
    method.__name__, method.__doc__ = original.__name__, original.__doc__
    return method


class _Step:
    """A callback, counted for the scope of the context it runs in. What the loop says of it in the log is
    said of the program's own."""

    __slots__ = ("_function",)

    def __init__(self, function: Any) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        try:
            return _core.run_step(self._function, *args)
        except BaseException as error:
            hide_frames(error)
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._function, name)

    def __repr__(self) -> str:
        return repr(self._function)


def _watch_executors(thread: Any) -> None:
    """`asyncio.to_thread` hands a thread pool a call of `Context.run`."""
    item: Any = getattr(thread, "_WorkItem", None)
    original: Any = getattr(item, "run", None)
    if original is None or getattr(original, "fastalloc_wrapped", False):
        return

    def run(self: Any) -> None:
        context = _context_run_by(self)
        if context is None:
            original(self)
        else:
            _core.run_in_scope(context, original, self)

    run.fastalloc_wrapped = True  # type: ignore[attr-defined]
    item.run = run


def _context_run_by(item: Any) -> Any:
    """The Context whose `run` is what a work item calls, or is handed to what it calls."""
    call = getattr(item, "fn", None)
    words = (getattr(call, "func", call), *getattr(call, "args", ()), *getattr(item, "args", ()))
    for word in words:
        owner = getattr(word, "__self__", None)
        if type(owner) is Context and word.__name__ == "run":
            return owner
    return None


def _watch_anyio(to_thread: Any) -> None:
    """anyio's worker threads enter the context of a call by themselves: what they run there is wrapped.
    So are the endpoints of Starlette and FastAPI that are plain functions."""
    original = getattr(to_thread, "run_sync", None)
    if original is None or hasattr(original, "fastalloc_wrapped"):
        return
    import functools

    @functools.wraps(original)
    def run_sync(func: Any, *args: Any, **options: Any) -> Any:
        return original(functools.partial(_in_its_scope, func), *args, **options)

    run_sync.fastalloc_wrapped = True  # type: ignore[attr-defined]
    to_thread.run_sync = run_sync


def _in_its_scope(function: Any, *args: Any) -> Any:
    try:
        return _core.run_step(function, *args)
    except BaseException as error:
        hide_frames(error)
        raise


def _watch_asgiref(sync: Any) -> bool:
    """`sync_to_async` runs a function in a copy of the task's context; on the way back, as from
    `async_to_sync`, the values of the other context are set one by one. False: it is half imported."""
    to_async, restore = getattr(sync, "SyncToAsync", None), getattr(sync, "_restore_context", None)
    if to_async is None or restore is None:
        return to_async is not None
    import functools

    handler = to_async.thread_handler
    if hasattr(handler, "fastalloc_wrapped"):
        return True

    @functools.wraps(handler)
    def thread_handler(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            if len(args) > 4 and callable(
                args[-1]
            ):  # loop, exc_info, task_context, func, the function
                args = (*args[:-1], functools.partial(_following, args[-1]))
            return handler(self, *args, **kwargs)
        except BaseException as error:
            hide_frames(error)
            raise

    @functools.wraps(restore)
    def restore_and_follow(*args: Any, **kwargs: Any) -> None:
        restore(*args, **kwargs)
        _core.follow_context()

    thread_handler.fastalloc_wrapped = True  # type: ignore[attr-defined]
    to_async.thread_handler, sync._restore_context = thread_handler, restore_and_follow
    return True


def _following(function: Any) -> Any:
    try:
        return _core.run_following(function)
    except BaseException as error:
        hide_frames(error)
        raise


def _trace_greenlets(greenlet: Any) -> None:
    """A thread's greenlets are traced from its first scope on; its own tracer stays called."""
    try:
        previous = greenlet.gettrace()
    except AttributeError:  # half imported, or without tracing
        return
    if previous is _core.follow_context or getattr(previous, "fastalloc_tracer", False):
        return
    if previous is None:
        greenlet.settrace(_core.follow_context)
        return

    def tracer(event: str, switched: Any) -> None:
        _core.follow_context()
        previous(event, switched)

    tracer.fastalloc_tracer = True  # type: ignore[attr-defined]
    greenlet.settrace(tracer)
