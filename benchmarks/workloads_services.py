"""Workloads of services: an ORM, data frames, and requests to real servers under load.

The server runs in the measured process, as it does in production; what sends the requests is a
process of its own (load.py), so that the CPU time of the measured one is the server's alone.
fastalloc's middleware, which makes each request a span, is there in the row that measures spans: the profilers beside
it know nothing of requests either.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

from benchmarks import profilers
from benchmarks.workloads_pyperformance import pyperformance

if TYPE_CHECKING:
    from collections.abc import Callable

REQUESTS = 12
"""Of one turn: some 10 ms."""


def sqlalchemy() -> Callable[[], object]:
    """Rows inserted, committed and queried through the ORM, SQLite in memory."""
    import warnings

    warnings.simplefilter("ignore")  # pyperformance writes for SQLAlchemy 1.4
    bench = pyperformance("sqlalchemy_declarative")
    return lambda: bench.bench_sqlalchemy(1, 6)


def pandas() -> Callable[[], object]:
    """A data frame of 2,000 rows grouped, joined, sorted and written as CSV."""
    import numpy as np
    import pandas as pd

    numbers = np.arange(2000)
    orders = pd.DataFrame(
        {
            "customer": numbers % 97,
            "item": [f"item {number % 13}" for number in numbers],
            "price": numbers * 1.25,
        }
    )
    customers = pd.DataFrame({"customer": range(97), "city": [f"city {n % 7}" for n in range(97)]})

    def work() -> str:
        joined = orders.merge(customers, on="customer")
        sums = joined.groupby(["city", "item"])["price"].sum().reset_index()
        return str(sums.sort_values("price").to_csv())

    return work


def _load(port: int, path: str) -> Callable[[], object]:
    """Start what sends requests; gives what sends REQUESTS of them and waits for the answers."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    client = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.load", str(port), path],
        env={**kept, "PYTHONPATH": os.environ.get("PYTHONPATH", os.getcwd())},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )

    def work() -> None:
        assert client.stdin and client.stdout
        client.stdin.write(f"{REQUESTS}\n")
        answer = client.stdout.readline().strip()
        if answer != f"{REQUESTS} answered":
            raise RuntimeError(f"requests failed: {answer or 'the client is gone'}")

    return work


def django_request() -> Callable[[], object]:
    """A page of 40 rows: Django's ORM, template and middleware, in its threaded server, under load."""
    import django
    from django.conf import settings

    ours = ["fastalloc.integrations.django.Middleware"] if profilers.in_spans else []
    settings.configure(
        SECRET_KEY="benchmark",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF="benchmarks.apps.django_shop",
        INSTALLED_APPS=["benchmarks.apps"],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": "file:shop?mode=memory&cache=shared",
                "CONN_MAX_AGE": None,
            }
        },
        MIDDLEWARE=[*ours, "django.middleware.common.CommonMiddleware"],
        TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
        LOGGING_CONFIG=None,
    )
    django.setup()
    from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
    from django.core.wsgi import get_wsgi_application

    from benchmarks.apps import django_shop

    class Handler(WSGIRequestHandler):
        # As gunicorn does: else the answer's second part waits 40 ms for an acknowledgement.
        disable_nagle_algorithm = True

        def log_message(self, format: str, *args: Any) -> None:
            pass

    django_shop.fill()
    server = ThreadedWSGIServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.set_app(get_wsgi_application())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return _load(server.server_address[1], "/orders/")


def fastapi_request() -> Callable[[], object]:
    """A JSON answer of 40 checked models: FastAPI under uvicorn, under load."""
    import uvicorn

    from benchmarks.apps.fastapi_shop import app

    served: Any = app
    if profilers.in_spans:
        from fastalloc.integrations.starlette import Middleware

        served = Middleware(app)
    # asyncio sends at once only where the socket names its protocol, as those do that uvicorn makes itself.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        served,
        log_config=None,
        access_log=False,
        timeout_keep_alive=3600,  # connections wait while other profilers have their turn
    )
    server = uvicorn.Server(config)
    threading.Thread(target=server.run, args=([listening],), daemon=True).start()
    return _load(listening.getsockname()[1], "/orders/")


SERVICES = (sqlalchemy, pandas, django_request, fastapi_request)
