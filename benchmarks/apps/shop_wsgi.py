"""`gunicorn benchmarks.apps.shop_wsgi`: the demo's shop, with nothing around it but what its settings name."""

from __future__ import annotations

import os

import fastalloc  # noqa: F401  first: with FASTALLOC_MODE set, recording starts here

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.apps.shop_settings")

from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
