"""Work that no allocation and no request brings about: done in the watcher's thread.

The watcher (native/watcher.h) is a thread of the core's that Python knows only while it has work. Jobs run
one after the other, each under a breaker named after it; they must be short, and must not wait for
other threads: a fork waits for a running job, a second at most, and so does the exit, half a
second at most.

Law: nothing runs while this process has no recording. In a forked child all jobs go on, once the child
has lived long enough to have a recording of its own.
"""

from __future__ import annotations

import gc
import os
import sys
from time import monotonic

from fastalloc import _core
from fastalloc.breaker import Breaker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Job = Callable[[], object]

REASONS = _core.REASONS  # what a handler can be for
SOON_AT_MOST = 64  # jobs that wait for `soon`; more are not taken
# A job may be importing: a child that leaves it half done finds half a module, and waits for its lock for ever.
BEFORE_FORK_SECONDS = 1.0

_jobs: dict[str, _Repeated] = {}
_soon: list[Job] = []
_handlers: dict[str, list[Job]] = {reason: [] for reason in REASONS}
_prepared = False
_running = False


class _Repeated:
    __slots__ = ("due", "job", "name", "seconds", "while_disabled")

    def __init__(self, seconds: float, job: Job, name: str, while_disabled: bool) -> None:
        self.seconds, self.job, self.name = seconds, job, name
        self.while_disabled = while_disabled
        self.due = monotonic() + seconds


def every(seconds: float, job: Job, name: str, *, while_disabled: bool = False) -> None:
    """Call `job()` every `seconds`, the first time after `seconds`; replaces the job of that name.

    name: also its breaker's. while_disabled: also while recording is switched off (`disable`), to find
    out that it shall go on. A job that raises is tried again at its next turn, until its breaker opens.
    """
    _jobs[name] = _Repeated(max(seconds, 0.01), job, name, while_disabled)
    _core.work_due(seconds)


def soon(job: Job) -> bool:
    """Call `job()` once, as soon as the watcher has the GIL. False: too many wait already."""
    if len(_soon) >= SOON_AT_MOST:
        return False
    _soon.append(job)
    _core.work_due(0)
    return True


def cancel(name: str) -> None:
    """Forget the job of that name; one that runs just now ends first. Does nothing without one."""
    _jobs.pop(name, None)


def on(reason: str, handler: Job) -> None:
    """Call `handler()` each time that the core has `reason`: one of REASONS. Once for several that
    come while the watcher is at work."""
    if handler not in _handlers[reason]:
        _handlers[reason].append(handler)


def prepare() -> None:
    """Let the core call us. At start; costs nothing the second time."""
    global _prepared
    if not _prepared:
        _prepared = True
        _core.set_work(_work)
        os.register_at_fork(
            before=_before_fork,
            after_in_parent=_restart_later,
            after_in_child=_after_fork_in_child,
        )


def rest(seconds: float) -> bool:
    """Wait for the running job, at most so long, and let the watcher go, until a fork or
    `restart`. False: it is still at work."""
    return _core.watcher_join(seconds)


def _work(reasons: int) -> float:
    """All that is due. In how many seconds it wants to be called again; -1: not by the clock."""
    global _running
    if _running:  # one that was given up at a stop is still at it
        return 0.1
    _running = True
    try:
        for bit in reversed(range(len(REASONS))):  # the guard's first
            reason = REASONS[bit]
            if reasons >> bit & 1:
                for handler in tuple(_handlers[reason]):
                    Breaker(f"on {reason}").call(handler)
        for _ in range(len(_soon)):
            Breaker("soon").call(_soon.pop(0))
        return _run_due_jobs(monotonic())
    finally:
        _running = False
        _forget_this_thread()


def _run_due_jobs(now: float) -> float:
    active = _core.is_active()
    for job in tuple(_jobs.values()):
        if job.due > now:
            continue
        job.due = now + job.seconds
        if active or job.while_disabled:
            Breaker(job.name).call(job.job)
    if _soon:
        return 0.0
    now = monotonic()
    return min((max(job.due - now, 0.0) for job in tuple(_jobs.values())), default=-1.0)


def _forget_this_thread() -> None:
    """`threading` keeps a dummy for each foreign thread that asked for its current thread (logging
    does), for good."""
    threading = sys.modules.get("threading")
    if threading is not None:
        dummy = getattr(threading, "_active", {}).get(threading.get_ident())
        if isinstance(dummy, threading._DummyThread):
            threading._active.pop(threading.get_ident(), None)


# --- fork ---------------------------------------------------------------------------------------


def _before_fork() -> None:
    if _core.has_recording():
        _core.watcher_join(BEFORE_FORK_SECONDS)


def _after_fork_in_child() -> None:
    global _running
    _running = False
    _soon.clear()
    if _core.has_recording():
        _core.watcher_restart_soon()
    _restart_later()


def _restart_later() -> None:
    """In the parent the core does so at once, unless the system then refuses it a thread."""
    if _core.has_recording() and _restart_when_settled not in gc.callbacks:
        gc.callbacks.append(_restart_when_settled)


def _restart_when_settled(phase: str, info: object) -> None:
    """A collection of the garbage: the one thing that Python does every now and then in each process."""
    if phase != "stop" or (_core.has_recording() and not _core.watcher_restart()):
        return
    # Only from the end, and else left in place: taking it away further ahead would make the collector
    # pass over somebody else's callback once.
    if gc.callbacks[-1] is _restart_when_settled:
        gc.callbacks.pop()
