"""Django: spans named by the route as urls.py spells it.

In settings; the first line makes each request a span. The others are optional: options, the end of the
view, and checks in `manage.py check` with the command line as `manage.py fastalloc`:

    MIDDLEWARE = ["fastalloc.integrations.django.Middleware", ...]   # first
    FASTALLOC = {"mode": "light"}
    MIDDLEWARE += ["fastalloc.integrations.django.ViewMiddleware"]   # last
    INSTALLED_APPS = [..., "fastalloc.integrations.django"]

Or around the whole application, so that all of the middleware counts too:

    application = WSGIMiddleware(get_wsgi_application(), name=route_name)   # or ASGIMiddleware

With both, the request is one span, and its phases are those of the settings' middleware.
"""

from __future__ import annotations

from .middleware import Middleware, ViewMiddleware
from .routes import route_name

__all__ = ["Middleware", "ViewMiddleware", "route_name"]
