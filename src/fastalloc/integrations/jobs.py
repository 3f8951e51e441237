"""Jobs of a scheduler or a queue that has no integration of its own: APScheduler, RQ, cron, a loop.

    @job("import orders")
    def import_orders(): ...

    with job("import orders"): ...

What `fastalloc.span` does, and besides the job is a request: trackers may look at it, and it is in the
request log.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, TypeVar

from fastalloc import profiler, requests
from fastalloc.tracebacks import hide_frames

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

__all__ = ["job"]

Function = TypeVar("Function", bound="Callable[..., Any]")


class job:
    """A job named `name`: for `with`, and a decorator for functions and coroutine functions.

    name: what the job is called, from the code and not from its data.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._request: requests.Request | None = None

    def __enter__(self) -> requests.Request:
        profiler.serving()
        self._request = requests.begin(self.name, kind="job")
        return self._request

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        request, self._request = self._request, None
        if request is not None:
            request.status = "failed" if error is not None else "done"
            request.end(error)

    def __call__(self, function: Function) -> Function:
        name = self.name
        wrapper: Any
        if inspect.iscoroutinefunction(function):

            async def wrapper(*args: Any, **kwargs: Any) -> Any:
                try:
                    with job(name):
                        return await function(*args, **kwargs)
                except BaseException as error:
                    hide_frames(error)
                    raise

        else:

            def wrapper(*args: Any, **kwargs: Any) -> Any:
                try:
                    with job(name):
                        return function(*args, **kwargs)
                except BaseException as error:
                    hide_frames(error)
                    raise

        return functools.wraps(function)(wrapper)  # type: ignore[return-value]
