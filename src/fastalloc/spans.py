"""Spans and phases as context managers and decorators.

A scope (an open span or phase) belongs to a context (`contextvars`). What tells the core that a thread has gone
to another one is in switches.py.
"""

from __future__ import annotations

try:
    from fastalloc import _core
    from fastalloc._core import Phase, Span, context_number
except ImportError:
    from fastalloc.inactive import Phase, Span, context_number  # type: ignore[assignment]

    _core = None  # type: ignore[assignment]

from fastalloc.tracebacks import hide_catch, hide_frames

TYPE_CHECKING = False  # the capture wing does without typing at run time: it takes 5 ms to import
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from typing import Any, TypeVar

    Function = TypeVar("Function", bound=Callable[..., Any])

__all__ = ["checkpoint", "context_number", "phase", "span"]


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
