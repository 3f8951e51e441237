"""A WSGI application that shows its metrics, of all its workers where they share a folder."""

from __future__ import annotations

import os

from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

import fastalloc.integrations.prometheus
from fastalloc.integrations.wsgi import WSGIMiddleware
from tests.integrations.apps.blocks import keep

fastalloc.integrations.prometheus.MULTIPROCESS_SECONDS = 0.2
fastalloc.integrations.prometheus.register()


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/metrics":
        registry = REGISTRY
        if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            registry = CollectorRegistry()
            MultiProcessCollector(registry)
        return [generate_latest(registry)]
    keep(20_000_000)
    return [str(os.getpid()).encode()]


def name(environ):
    path = environ["PATH_INFO"]
    return f"GET {'/orders/{id}/' if path.startswith('/orders/') else path}"


application = WSGIMiddleware(app, name=name)
