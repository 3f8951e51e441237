"""`gunicorn benchmarks.apps.shop_wsgi`: the demo's shop, with nothing around it but what its settings name."""

from __future__ import annotations

import os

from benchmarks import lot  # noqa: F401  before all else: where things lie is drawn by lot
from benchmarks.apps import hooks  # noqa: F401  of no profiler, where the variant says so

# isort: split
import fastalloc  # noqa: F401  first: with FASTALLOC_MODE set, recording starts here

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.apps.shop_settings")

from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
