"""Celery: each task that a worker runs is a span named after it.

    import fastalloc.integrations.celery        # in the module that makes the Celery app

Pools prefork, threads, solo, gevent and eventlet. A child of the prefork pool goes on in a recording
of its own. Arguments and results of tasks are not looked at.
"""

from __future__ import annotations

from typing import Any

from celery import signals

from fastalloc import profiler, requests

__all__: list[str] = []

_running: dict[tuple[str, int], requests.Request] = {}
"""By task id and how often it was tried: a retry may begin before the run that asked for it has ended."""


def _key(task_id: str, context: Any) -> tuple[str, int]:
    return task_id, int(getattr(context, "retries", 0) or 0)


def _begin_child(**_: Any) -> None:
    _running.clear()  # a forked child has none of its parent's
    _serving()


def _serving(**_: Any) -> None:
    requests.prepare()
    profiler.serving()


def _begin(task_id: str = "", task: Any = None, **_: Any) -> None:
    request = requests.begin(str(getattr(task, "name", "(task)")), kind="task")
    request.enter("task")
    _running[_key(task_id, getattr(task, "request", None))] = request


def _failed(
    sender: Any = None, task_id: str = "", exception: BaseException | None = None, **_: Any
) -> None:
    request = _running.get(_key(task_id, getattr(sender, "request", None)))
    if request is not None and exception is not None:
        request.error = type(exception).__name__


def _retried(request: Any = None, reason: Any = None, **_: Any) -> None:
    running = _running.get(_key(str(getattr(request, "id", "")), request))
    cause = getattr(reason, "exc", None)
    if running is not None and isinstance(cause, BaseException):
        running.error = type(cause).__name__


def _end(task_id: str = "", task: Any = None, state: str | None = None, **_: Any) -> None:
    request = _running.pop(_key(task_id, getattr(task, "request", None)), None)
    if request is not None:
        request.status = str(state or "")
        request.end()


def _end_of_child(**_: Any) -> None:
    """Children of the pool end without Python's own exit."""
    requests.flush()
    profiler.ending("clean")


signals.worker_process_init.connect(_begin_child, weak=False)
signals.worker_process_shutdown.connect(_end_of_child, weak=False)
signals.worker_ready.connect(_serving, weak=False)
signals.task_prerun.connect(_begin, weak=False)
signals.task_failure.connect(_failed, weak=False)
signals.task_retry.connect(_retried, weak=False)
signals.task_postrun.connect(_end, weak=False)
