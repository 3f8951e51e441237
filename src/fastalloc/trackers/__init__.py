"""Trackers: what frameworks do in a request, and what that allocates.

    queries         statements, their lines, rows and bytes; repeats (N+1); large results
    models          instances fetched, created, updated, deleted, still alive
    global_scopes   managers and loader criteria that are added to every query
    sessions        size of the session, and of its largest keys
    admin           stages of a page of Django's admin
    caches          growth of module-level containers and lru_caches

They look at requests in detail only (`Request.detailed`). For each of these they leave a digest with
the request, and for all of them a part of each dump. A framework that is imported by then is hooked into
by `install`, before the first request, since it is the hooks that find out which request grows; any other
when the next such request finds it imported. Each tracker has a breaker of its own, `Breaker("tracker <name>")`.
"""

from __future__ import annotations

import os
import sys

from fastalloc import dumps, requests
from fastalloc.breaker import Breaker
from fastalloc.trackers import work

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

    from fastalloc.requests import Request

TRACKERS = ("queries", "models", "global_scopes", "sessions", "admin", "caches")

_wanted: list[ModuleType] = []
_hooks = Breaker("tracker hooks")
_hooked: set[str] = set()


def install(names: str = "all") -> None:
    """Look at requests with the trackers `names` from here on: the option's value, "all", "none" or
    names with commas between. Does nothing the second time."""
    if _wanted:
        return
    import importlib

    chosen = TRACKERS if names == "all" else names.split(",")
    for name in TRACKERS:
        tracker: Any = importlib.import_module(f"fastalloc.trackers.{name}")
        tracker.enabled = name in chosen
        if tracker.enabled:
            _wanted.append(tracker)
            dumps.add_section(name, tracker.section)
            if hasattr(tracker, "start"):
                tracker.start()
    if _wanted:
        requests.observe("trackers", _began, _ended)
        _hooks.call(hook_frameworks)
        os.register_at_fork(after_in_child=_reset)


def _reset() -> None:
    work.forget()
    for tracker in _wanted:
        tracker.reset()


def _began(request: Request) -> None:
    work.began(request)
    work.apart(_hooks, hook_frameworks)


def _ended(request: Request) -> None:
    done = work.ended(request)
    if done is None:
        return
    for tracker in _wanted:
        digest = work.apart(tracker.breaker, tracker.finish, done)
        if digest:
            request.digest(tracker.__name__.rpartition(".")[2], digest)


def hook_frameworks() -> None:
    """Hook into the frameworks that are imported by now. Each is tried once."""
    modules = sys.modules
    for name, module, hook in _HOOKS:
        if name not in _hooked and module in modules and (name != "django" or _django_is_ready()):
            _hooked.add(name)
            hook()


def _django_is_ready() -> bool:
    return bool(sys.modules["django.apps"].apps.ready)


def _hook_django() -> None:
    from django.apps import apps

    from fastalloc.trackers import admin, django_orm, global_scopes, sessions

    _hooks.call(django_orm.install)
    if global_scopes.enabled:
        _hooks.call(global_scopes.install_django)
    if sessions.enabled and "django.contrib.sessions.backends.base" in sys.modules:
        _hooks.call(sessions.install_django)
    if admin.enabled and apps.is_installed("django.contrib.admin"):
        _hooks.call(admin.install_django)


def _hook_sqlalchemy() -> None:
    from fastalloc.trackers import sqlalchemy_orm

    _hooks.call(sqlalchemy_orm.install)


def _hook_flask() -> None:
    from fastalloc.trackers import sessions

    if sessions.enabled:
        _hooks.call(sessions.install_flask)


def _hook_starlette() -> None:
    from fastalloc.trackers import sessions

    if sessions.enabled:
        _hooks.call(sessions.install_starlette)


_HOOKS: tuple[tuple[str, str, Callable[[], None]], ...] = (
    ("django", "django.db", _hook_django),
    ("sqlalchemy", "sqlalchemy.engine", _hook_sqlalchemy),
    ("flask", "flask", _hook_flask),
    ("starlette", "starlette.middleware.sessions", _hook_starlette),
)
