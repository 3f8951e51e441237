"""What switches contexts on a thread, and how the core is told, so that each allocation counts for the right scope.

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

try:
    from fastalloc import _core
except ImportError:
    _core = None  # type: ignore[assignment]

from fastalloc.breaker import Breaker
from fastalloc.tracebacks import hide_frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_breaker = Breaker("context switches")


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
    _core.watch_handles(events.Handle)
    import concurrent.futures.thread  # noqa: F401  (asyncio would import it at the first use)


def _watch_uvloop(uvloop: Any) -> bool:
    """On 3.11, where nothing tells of its tasks: tasks and callbacks alike ask the loop to call them
    soon. False: it is half imported."""
    loop = getattr(uvloop, "Loop", None)
    if loop is None:
        return False
    import functools

    for name, before in (
        ("call_soon", 0),
        ("call_soon_threadsafe", 0),
        ("call_later", 1),
        ("call_at", 1),
    ):
        original = getattr(loop, name)
        if type(original) is not _core.LoopMethod:
            method = _core.LoopMethod(original, before)
            setattr(loop, name, functools.update_wrapper(method, original))
    return True


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
        if type(owner) is _core.Context and word.__name__ == "run":
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
        return original(_core.step(func), *args, **options)

    run_sync.fastalloc_wrapped = True  # type: ignore[attr-defined]
    to_thread.run_sync = run_sync


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
                args = (*args[:-1], _core.following(args[-1]))
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
