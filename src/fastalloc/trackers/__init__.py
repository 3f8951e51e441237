"""Trackers: what frameworks do in a request, and what that allocates.

    queries         statements, their lines, rows and bytes; repeats (N+1); large results
    models          instances fetched, created, updated, deleted, still alive
    global_scopes   managers and loader criteria that are added to every query
    sessions        size of the session, and of its largest keys
    admin           stages of a page of Django's admin
    caches          growth of module-level containers and lru_caches

They look at requests in detail only (`Request.detailed`). For each of these they leave a digest with
the request, and for all of them a part of each dump. A framework is hooked into when the first such
request finds it imported. Each tracker has a breaker of its own, `Breaker("tracker <name>")`.
"""

from __future__ import annotations

import os
import sys

from fastalloc import dumps, requests
from fastalloc.breaker import Breaker
from fastalloc.trackers import work

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

    from fastalloc.requests import Request

TRACKERS = ("queries", "models", "global_scopes")

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
    if _wanted:
        requests.observe("trackers", _began, _ended)
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
    """Hook into the frameworks that are imported by now."""
    if "django" not in _hooked and _django_is_ready():
        _hooked.add("django")
        _hook_django()
    if "sqlalchemy" not in _hooked and "sqlalchemy.engine" in sys.modules:
        _hooked.add("sqlalchemy")
        from fastalloc.trackers import sqlalchemy_orm

        sqlalchemy_orm.install()


def _django_is_ready() -> bool:
    apps = sys.modules.get("django.apps")
    return apps is not None and bool(apps.apps.ready) and "django.db" in sys.modules


def _hook_django() -> None:
    from fastalloc.trackers import django_orm, global_scopes

    django_orm.install()
    if global_scopes.enabled:
        global_scopes.install_django()
