"""ASGI entry point: `uvicorn fastalloc.demo.project.asgi:application`."""

from __future__ import annotations

import os

import fastalloc  # noqa: F401  first: with FASTALLOC_MODE set, recording starts here
from fastalloc.integrations.asgi import ASGIMiddleware
from fastalloc.integrations.django import route_name

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fastalloc.demo.project.settings")

from django.core.asgi import get_asgi_application

application = ASGIMiddleware(get_asgi_application(), name=route_name)
