"""Where everything stands: the stacks of threads, asyncio's tasks and greenlets.

A stack is a list of frames, the leaf first: file, function, line. No local variable is ever looked at.
Everything is a generator: rows are made one by one, while there is room.
"""

from __future__ import annotations

import gc
import sys
from _thread import get_ident
from itertools import islice
from types import AsyncGeneratorType, CoroutineType

from fastalloc import _core, program
from fastalloc.dumps.text import Encoded, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import FrameType
    from typing import Any

MOST_FRAMES = 100
MOST_TASKS = 10_000  # looked at; beyond it asyncio's own set costs too much to copy
MOST_NAME = 200

_OUR_FILES = __file__[: -len("dumps/stacks.py")]


def threads() -> Iterator[dict[str, object]]:
    """All threads that run Python code. span_id, phase: what each counts for, 0 and "" where it
    has not allocated yet."""
    known: dict[int, Any] = dict(getattr(sys.modules.get("threading"), "_active", ()))
    running = _core.running_threads()
    for ident, frame in sys._current_frames().items():
        thread = getattr(known.get(ident), "__dict__", {})
        tid = thread.get("_native_id") or 0
        span_id, phase = running.get(tid, (0, ""))
        row: dict[str, object] = {
            "name": _name(thread.get("_name", "")),
            "tid": tid,
            "daemon": bool(thread.get("_daemonic", False)),
            "span_id": span_id,
            "phase": phase,
        }
        if ident == get_ident():
            row["writes_this_dump"] = True
            row["stack"] = _stack(_beyond_ours(frame))
        else:
            row["stack"] = _stack(frame)
        yield row


def _beyond_ours(frame: FrameType | None) -> FrameType | None:
    while frame is not None and frame.f_code.co_filename.startswith(_OUR_FILES):
        frame = frame.f_back
    return frame


def _stack(frame: FrameType | None) -> Encoded:
    frames: list[str] = []
    while frame is not None and len(frames) < MOST_FRAMES:
        frames.append(_frame(frame))
        frame = None if program.is_outermost(frame) else frame.f_back
    return _encoded(frames)


def _encoded(frames: list[str]) -> Encoded:
    return Encoded(f"[{', '.join(frames)}]")


def _frame(frame: FrameType) -> str:
    code = frame.f_code
    file, function = quote(code.co_filename), quote(code.co_qualname)
    line = frame.f_lineno or code.co_firstlineno
    return f'{{"file": {file}, "function": {function}, "line": {line}}}'


def _name(name: object) -> str:
    return name[:MOST_NAME] if isinstance(name, str) else ""


# --- asyncio ----------------------------------------------------------------------------------


def tasks(others: Iterable[object] = ()) -> Iterator[dict[str, object]]:
    """All tasks of all event loops, in whatever thread, that are not done.

    others: objects that may be tasks too, where asyncio's own sets do not have them all (3.14).
    stack: of the coroutine and what it awaits; empty while the task runs: its thread's stack tells.
    loop: 0, 1, ... in this list.
    """
    module = sys.modules.get("asyncio.tasks")
    if module is None:
        return
    running = {id(task) for task in list(getattr(module, "_current_tasks", {}).values())}
    loops: dict[int, int] = {}
    seen: set[int] = set()
    for task in _all_tasks(module, others):
        if id(task) in seen or task.done():
            continue
        seen.add(id(task))
        coroutine = task.get_coro()
        if coroutine is None:  # another thread is making it, or has just ended it
            continue
        loop = id(task.get_loop())
        is_running = id(task) in running or getattr(coroutine, "cr_running", False)
        yield {
            "name": _name(task.get_name()),
            "coroutine": _name(getattr(coroutine, "__qualname__", "")),
            "state": "running" if is_running else "cancelling" if task.cancelling() else "waiting",
            "loop": loops.setdefault(loop, len(loops)),
            "span_id": _span_of(task),
            "stack": [] if is_running else _awaits(coroutine),
        }


def _all_tasks(module: Any, others: Iterable[object]) -> Iterator[Any]:
    """3.11: one weak set; 3.12 on: one of scheduled and a set of eager tasks; 3.14 on: only those
    written in Python are in the set."""
    for name in ("_all_tasks", "_scheduled_tasks"):
        references = getattr(getattr(module, name, None), "data", ())
        for reference in _copied(references):
            task = reference()
            if task is not None:
                yield task
    yield from _copied(getattr(module, "_eager_tasks", ()))
    for other in others:
        if isinstance(other, module.Task):
            yield other


def _copied(members: Any) -> list[Any]:
    """The members of a set that other threads change. The copy is made without running Python, but
    for a collection of garbage in between: then it is made again."""
    for _ in range(5):
        try:
            return list(islice(members, MOST_TASKS))
        except RuntimeError:
            continue
    return []


def _span_of(task: Any) -> int:
    if hasattr(task, "get_context"):  # 3.12
        return _core.span_of(task.get_context())
    for referent in gc.get_referents(task):
        if type(referent) is _core.Context:
            return _core.span_of(referent)
    return 0


def _awaits(awaited: object) -> Encoded:
    """From a coroutine down to what it waits for in the end; that comes first."""
    frames: list[str] = []
    for _ in range(2 * MOST_FRAMES):
        for prefix, below in _AWAITING:
            if hasattr(awaited, below):
                frame = getattr(awaited, f"{prefix}frame", None)
                if frame is not None:
                    frames.append(_frame(frame))
                awaited = getattr(awaited, below)
                break
        else:
            awaited = _wrapped_by(awaited)
        if awaited is None:
            break
    return _encoded(frames[: -MOST_FRAMES - 1 : -1])


_AWAITING = (("cr_", "cr_await"), ("gi_", "gi_yieldfrom"), ("ag_", "ag_await"))
_WRAPPERS = ("async_generator_asend", "async_generator_athrow", "coroutine_wrapper")


def _wrapped_by(awaited: object) -> object:
    """The (asynchronous) generator or coroutine that one of the interpreter's own wrappers steps."""
    if type(awaited).__name__ in _WRAPPERS:
        for referent in gc.get_referents(awaited):
            if type(referent) in (AsyncGeneratorType, CoroutineType):
                return referent
    return None


# --- greenlets --------------------------------------------------------------------------------


def greenlets(found: Iterable[Any]) -> Iterator[dict[str, object]]:
    """Those greenlets of `found` that are suspended; the running ones are in their threads' stacks."""
    for greenlet in found:
        frame = getattr(greenlet, "gr_frame", None)
        if frame is not None:
            context = getattr(greenlet, "gr_context", None)
            kind = type(greenlet)
            yield {
                "type": f"{kind.__module__}.{kind.__qualname__}",
                "span_id": _core.span_of(context) if context is not None else 0,
                "stack": _stack(frame),
            }
