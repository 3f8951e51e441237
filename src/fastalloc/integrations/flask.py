"""Flask: requests named by their rule, with phases by Flask's own signals.

    Fastalloc(app)                      # or Fastalloc().init_app(app)

Options may be in the app's config, FASTALLOC_MODE and the like, so `app.config.from_prefixed_env`
finds them. A request is named by its rule from its begin: the app's URL map is asked before the app is.
Phases: "app" until Flask itself has routed the request, "view" (with what runs before and after it),
"render", "response" the start of the response and the app's tear-down, "stream" the sending of the body.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from flask import request as flask_request
from flask import signals
from werkzeug.exceptions import HTTPException
from werkzeug.wsgi import get_path_info

import fastalloc
from fastalloc import requests

from ._names import NO_ROUTE, method_name
from .wsgi import WSGIMiddleware

if TYPE_CHECKING:
    from flask import Flask

__all__ = ["Fastalloc"]


class Fastalloc:
    """The extension. One object serves any number of apps."""

    def __init__(self, app: Flask | None = None) -> None:
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Wrap `app.wsgi_app`, listen to the app's signals, and take its options.

        A wrong option is not worth the service: it is warned of, and none of them is used.
        """
        given = app.config.get_namespace("FASTALLOC_")
        try:
            fastalloc.configure(given)
            if "mode" in given and not fastalloc.status().active:
                fastalloc.start()
        except fastalloc.ConfigError as error:
            warnings.warn(f"FASTALLOC_* in the app's config are not used: {error}", stacklevel=2)
        app.extensions["fastalloc"] = self
        app.wsgi_app = WSGIMiddleware(  # type: ignore[method-assign]
            app.wsgi_app, name=lambda environ: _name_ahead(app, environ)
        )
        signals.request_started.connect(_routed, app)
        signals.before_render_template.connect(_render_begins, app)
        signals.template_rendered.connect(_render_ends, app)
        signals.request_finished.connect(_view_ended, app)


def _name_ahead(app: Flask, environ: dict[str, Any]) -> str:
    """The name of a request before Flask has seen it."""
    method = method_name(str(environ.get("REQUEST_METHOD", "")))
    hosts = app.url_map.host_matching or app.subdomain_matching
    try:
        if hosts:  # twice as long, and seldom
            adapter = app.create_url_adapter(app.request_class(environ))
            if adapter is None:
                return f"{method} {NO_ROUTE}"
        else:
            adapter = app.url_map.bind("")
        rule = adapter.match(get_path_info(environ), method, return_rule=True)[0].rule
    except HTTPException:  # not found, not with this method, a redirect
        rule = NO_ROUTE
    return f"{method} {rule}"


# Called by Flask within its own calls: nothing may leave these.


def _routed(app: Flask, **_: Any) -> None:
    request = requests.current()
    if request is not None:
        rule = flask_request.url_rule
        route = rule.rule if rule is not None else NO_ROUTE
        request.rename(f"{method_name(flask_request.method)} {route}")
        request.enter("view")


def _render_begins(app: Flask, **_: Any) -> None:
    _enter("render")


def _render_ends(app: Flask, **_: Any) -> None:
    _enter("view")


def _view_ended(app: Flask, **_: Any) -> None:
    _enter("response")


def _enter(phase: str) -> None:
    request = requests.current()
    if request is not None and request.kind == "http":
        request.enter(phase)
