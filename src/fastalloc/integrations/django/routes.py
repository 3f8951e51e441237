"""What a request is called: the method, and the route as urls.py spells it.

Asked before Django asks itself, so that a request has its name from its begin: a path converter's
`to_python` runs twice.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.urls import Resolver404, resolve

from fastalloc.integrations._names import NO_ROUTE, method_name

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_KNOWN_CHARACTERS = 100  # of a path whose route is remembered


def route_name(request: Mapping[str, Any]) -> str:
    """The name of a request, from its WSGI environ or ASGI scope: "GET /orders/<int:order_id>/".

    All paths that no route matches share one name.
    """
    if "PATH_INFO" in request:
        method = request.get("REQUEST_METHOD", "")
        path = request["PATH_INFO"].encode("latin-1").decode(errors="replace")
    else:
        method = request.get("method", "WEBSOCKET")
        path = request["path"].removeprefix(request.get("root_path", ""))
    try:
        route = readable(resolve(path or "/").route)
    except Resolver404:
        route = NO_ROUTE
    return f"{method_name(method)} {route}"


def route_ahead(request: Any) -> str | None:
    """The route that an HttpRequest will take by its URLconf, or that of the settings; None where it takes none, or
    the program's own URLs cannot be loaded. Some 10 us, next to nothing for a path that was asked for lately."""
    path = request.path_info
    # Not get_urlconf(): Django has just set that to the settings' own, and to read it takes 2 us.
    urlconf = getattr(request, "urlconf", None) or settings.ROOT_URLCONF
    try:
        ahead = _route_of_path if len(path) <= MAX_KNOWN_CHARACTERS else _route_of_path.__wrapped__
        return ahead(path, urlconf)
    except Exception:  # what a converter or an import raises, Django will meet again
        return None


# What has changed since, the route that Django takes tells in time: the request is renamed.
@lru_cache(256)
def _route_of_path(path: str, urlconf: Any) -> str | None:
    try:
        return readable(resolve(path, urlconf).route)
    except Resolver404:
        return None


@lru_cache(2000)
def readable(route: str) -> str:
    """A ResolverMatch's route for people: "^re/(?P<year>[0-9]{4})/$" is "/re/<year>/"."""
    if any(mark in route for mark in "^$(\\"):  # of re_path
        from django.contrib.admindocs import utils  # as the admin shows them

        route = utils.remove_non_capturing_groups(route)
        route = utils.replace_unnamed_groups(utils.replace_named_groups(route))
        route = utils.replace_metacharacters(route)
    return f"/{route}"
