"""gunicorn: hooks for its config file.

    from fastalloc.integrations.gunicorn import *       # noqa: F403

or, beside hooks of your own, as the last line, so that both are called:

    import fastalloc.integrations.gunicorn
    fastalloc.integrations.gunicorn.add_to(globals())

Recording itself needs no hook: it follows forks. The hooks tell it when a worker's start-up is over and
how it ends, dump a worker that gunicorn gives up for its timeout, and have the master say where the
recording of a worker is that was killed.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastalloc
from fastalloc import profiler, requests

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["child_exit", "post_worker_init", "worker_abort", "worker_exit"]

_WORKERS = 4096
_ended = mmap.mmap(-1, _WORKERS)
"""Shared by the master and its workers: 1 at a worker's number (modulo) once it has ended in order."""


def post_worker_init(worker: Any) -> None:
    """In the worker, the application being loaded: start-up is over."""
    _ended[worker.age % _WORKERS] = 0
    requests.prepare()
    profiler.serving()


def worker_abort(worker: Any) -> None:
    """In a worker that took too long: keep what it holds. Bounded by the options for dumps."""
    try:
        if fastalloc.status().active:
            fastalloc.write_dump("gunicorn worker timeout")
    except Exception:
        pass


def worker_exit(server: Any, worker: Any) -> None:
    """In the worker, at its end in order. (gunicorn calls it in the master too, at times.)"""
    _ended[worker.age % _WORKERS] = 1
    if os.getpid() == worker.pid:
        profiler.ending("clean")


def child_exit(server: Any, worker: Any) -> None:
    """In the master, when a worker is gone: if it did not end in order, say where its recording is."""
    try:
        if not _ended[worker.age % _WORKERS]:
            _tell(server, worker.pid)
    except Exception:
        pass


def _tell(server: Any, pid: int) -> None:
    folder = str(fastalloc.status().options.get("dir", ""))
    if folder and any(Path(folder).glob(f"fastalloc-{pid}-*.recording")):
        server.log.error(
            "fastalloc: worker %d was killed or crashed; what held its memory: fastalloc top %d --dir %s",
            *(pid, pid, folder),
        )


def add_to(config: dict[str, Any]) -> None:
    """Add the hooks to a config file's `globals()`: ours first, then the ones that are there."""
    for name in __all__:
        ours: Callable[..., None] = globals()[name]
        theirs = config.get(name)
        config[name] = ours if theirs is None or theirs is ours else _both(ours, theirs)


def _both(ours: Callable[..., None], theirs: Callable[..., Any]) -> Callable[..., Any]:
    """gunicorn checks how many parameters a hook has: they are the same."""
    if ours.__code__.co_argcount == 1:

        def hook_of_worker(worker: Any) -> Any:
            ours(worker)
            return theirs(worker)

        return hook_of_worker

    def hook_of_server(server: Any, worker: Any) -> Any:
        ours(server, worker)
        return theirs(server, worker)

    return hook_of_server
