"""Settings of the demo's shop as the side-by-side of services runs it: as it is, or with one profiler put in.

FASTALLOC_MODE puts fastalloc's line into MIDDLEWARE, SHOP_SILK django-silk's; each stands first, as its documentation says.
"""

from __future__ import annotations

import os

from fastalloc.demo.project.settings import *  # noqa: F403  # settings are made so
from fastalloc.demo.project.settings import INSTALLED_APPS as APPS
from fastalloc.demo.project.settings import MIDDLEWARE as PLAIN

WSGI_APPLICATION = "benchmarks.apps.shop_wsgi.application"
INSTALLED_APPS = [*APPS]
MIDDLEWARE = [*PLAIN]
if os.environ.get("FASTALLOC_MODE"):
    MIDDLEWARE.insert(0, "fastalloc.integrations.django.Middleware")
if os.environ.get("SHOP_SILK"):
    INSTALLED_APPS.append("silk")
    MIDDLEWARE.insert(0, "silk.middleware.SilkyMiddleware")
