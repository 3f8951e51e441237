"""What the trackers cost: `python -m benchmarks.trackers`, Django and SQLAlchemy, about two minutes.

Each variant runs in processes of its own, in turn with the others, so that all of them meet the same neighbours; told
is the least CPU time of a piece of work under a variant, divided by that of the first.

    none         trackers=none: the frameworks as they are, in a recorded request
    not chosen   hooked into, in requests that are not looked at: what 99 in a hundred pay
    queries      looked at by this tracker
    models       by this one and the one before
    all          by all
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from time import process_time

import fastalloc
from fastalloc import requests

ROUNDS = 4
TIMES = 6
VARIANTS = ("none", "not chosen", "queries", "models", "all")
TRACKERS = {"none": "none", "queries": "queries", "models": "queries,models"}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "fastalloc.demo.project.settings",
            "SHOP_DATABASE": f"{folder}/shop.sqlite3",
            "SHOP_SECRET_KEY": "only for this benchmark",
            "SHOP_ADMIN_PASSWORD": "only for this benchmark",
            "BOOKS_DATABASE": f"{folder}/books.sqlite3",
        }
        ask("fill", environment)
        best: dict[str, dict[str, float]] = {}
        for _ in range(ROUNDS):
            for variant in VARIANTS:
                for work, seconds in json.loads(ask(variant, environment)).items():
                    known = best.setdefault(work, dict.fromkeys(VARIANTS, float("inf")))
                    known[variant] = min(known[variant], seconds)
    print(f"{'':34}" + "".join(f"{variant:>12}" for variant in VARIANTS))
    for work, known in best.items():
        cells = "".join(f"{known[variant] / known['none']:>12.3f}" for variant in VARIANTS)
        print(f"{work:34}{cells}   {1000 * known['none']:.2f} ms")


def ask(what: str, environment: dict[str, str]) -> str:
    command = [sys.executable, "-m", "benchmarks.trackers", what]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def fill() -> None:
    from tests.end_to_end import books_app

    from fastalloc.demo.shop.populate import populate

    populate()
    books_app.fill()


def measure(variant: str) -> dict[str, float]:
    """Seconds of CPU of each piece of work, the least of a few."""
    with tempfile.TemporaryDirectory() as folder:
        trackers = TRACKERS.get(variant, "all")
        fastalloc.start(mode="light", dir=folder, request_percent=0, trackers=trackers)
        works = {**of_django(), **of_sqlalchemy()}
        first = requests.begin("GET /")
        first._choose("lot")  # hooks into the frameworks
        first.end()
        best = {}
        for name, work in works.items():
            for _ in range(TIMES):
                request = requests.begin("GET /benchmark/")
                if variant in ("none", "not chosen"):
                    assert not request.chosen
                else:
                    request._choose("lot")
                began = process_time()
                work()
                request.end()
                best[name] = min(best.get(name, float("inf")), process_time() - began)
        fastalloc.stop()
    return best


def of_django() -> dict[str, Callable[[], object]]:
    import django

    django.setup()
    from django.test import Client

    from fastalloc.demo.shop import scenarios
    from fastalloc.demo.shop.models import OrderLine

    client = Client()
    client.login(username="admin", password=os.environ["SHOP_ADMIN_PASSWORD"])

    def page(path: str) -> Callable[[], object]:
        return lambda: client.get(path)

    return {
        "250 queries of one row": scenarios.names_of_customers,
        "one query of 3,000 rows": lambda: list(OrderLine.objects.all()[:3000]),
        "3,000 rows, .iterator()": lambda: [0 for _ in OrderLine.objects.all()[:3000].iterator()],
        "a manager that prefetches": scenarios.order_numbers,
        "a page of orders": page("/orders/"),
        "a page with a large session": page("/scenarios/session/"),
        "a list page of the admin": page("/admin/shop/orderline/"),
    }


def of_sqlalchemy() -> dict[str, Callable[[], object]]:
    from tests.end_to_end import books_app

    return {
        "SQLAlchemy, 150 lazy relations": books_app.names_of_authors,
        "SQLAlchemy, 6,000 rows": books_app.all_books,
    }


if __name__ == "__main__":
    what = sys.argv[1] if len(sys.argv) > 1 else ""
    if not what:
        main()
    elif what == "fill":
        fill()
    else:
        json.dump(measure(what), sys.stdout)
