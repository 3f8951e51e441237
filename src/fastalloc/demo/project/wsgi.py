"""WSGI entry point: `gunicorn fastalloc.demo.project.wsgi`."""

from __future__ import annotations

import os

import fastalloc  # noqa: F401  first: with FASTALLOC_MODE set, recording starts here
from fastalloc.integrations.django import route_name
from fastalloc.integrations.wsgi import WSGIMiddleware

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fastalloc.demo.project.settings")

from django.core.wsgi import get_wsgi_application

application = WSGIMiddleware(get_wsgi_application(), name=route_name)
