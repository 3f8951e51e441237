"""Django: spans named by the route as urls.py spells it.

In settings; the first line makes each request a span, the other two are there for options, for
checks of them, and for `manage.py fastalloc`:

    MIDDLEWARE = ["fastalloc.integrations.django.Middleware", ...]   # first
    INSTALLED_APPS = [..., "fastalloc.integrations.django"]
    FASTALLOC = {"mode": "light"}

Or around the whole application, so that all of the middleware counts too:

    application = WSGIMiddleware(get_wsgi_application(), name=route_name)   # or ASGIMiddleware

With both, the request is one span, and its phases are those of the settings' middleware.
"""

from __future__ import annotations

from .middleware import Middleware, route_name

__all__ = ["Middleware", "route_name"]
