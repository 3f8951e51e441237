"""Django: spans named by the route as urls.py spells it.

Around the whole application, so that middleware and streaming count too:

    application = WSGIMiddleware(get_wsgi_application(), name=route_name)   # or ASGIMiddleware
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.urls import Resolver404, resolve

from ._names import method_name

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["route_name"]


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
        route = f"/{resolve(path or '/').route}"
    except Resolver404:
        route = "(no route)"
    return f"{method_name(method)} {route}"
