"""What the trackers cost: `python -m benchmarks trackers`, Django and SQLAlchemy, about five minutes.

Each variant runs in processes of its own, in turn with the others, so that all of them meet the same neighbours; told
is the least CPU time of a piece of work under a variant, divided by that of the first.

    none         trackers=none: the frameworks as they are, in a recorded request
    not chosen   hooked into, in requests that are not looked at: what 99 in a hundred pay
    queries, models, global_scopes, sessions, admin
                 looked at by this tracker alone; statements are watched for any of them
    all          by all

`caches` looks at no request: told is the CPU time of a sweep, after all that work.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from time import process_time
from typing import Any

from benchmarks import results
from benchmarks.interpreters import ROOT, Interpreter, environment, prepare_all
from benchmarks.tables import Table
from benchmarks.turns import said

ROUNDS = 4
TIMES = 6
ALONE = ("queries", "models", "global_scopes", "sessions", "admin")
VARIANTS = ("none", "not chosen", *ALONE, "all")


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks trackers", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--python", nargs="+", default=[sys.executable], help="interpreters (default: this one)"
    )
    for interpreter in prepare_all(parser.parse_args(arguments).python, peers=()):
        run(interpreter)
    table(results.load("trackers")).show()
    return 0


def run(interpreter: Interpreter) -> None:
    """Measure, and save the least seconds of each piece of work by variant."""
    with tempfile.TemporaryDirectory() as folder:
        variables = environment(
            PYTHONPATH=str(ROOT),
            DJANGO_SETTINGS_MODULE="fastalloc.demo.project.settings",
            SHOP_DATABASE=f"{folder}/shop.sqlite3",
            SHOP_SECRET_KEY="only for this benchmark",
            SHOP_ADMIN_PASSWORD="only for this benchmark",
            BOOKS_DATABASE=f"{folder}/books.sqlite3",
        )
        ask(interpreter, "fill", variables)
        best: dict[str, dict[str, float]] = {}
        for _ in range(ROUNDS):
            for variant in VARIANTS:
                for work, seconds in json.loads(ask(interpreter, variant, variables)).items():
                    known = best.setdefault(work, dict.fromkeys(VARIANTS, float("inf")))
                    known[variant] = min(known[variant], seconds)
        swept = [json.loads(ask(interpreter, "caches", variables)) for _ in range(ROUNDS)]
    least = min(swept, key=lambda sweep: float(sweep["seconds"]))
    results.save("trackers", interpreter, {"works": best, "sweep": least})


def table(documents: list[dict[str, Any]]) -> Table:
    """One row per piece of work; CPU time over that of the first variant."""
    works = [document["works"] for document in documents]
    variants = [list(next(iter(each.values()))) for each in works]
    shown = Table(
        "What trackers add to a request",
        [
            "",
            *(
                f"{document['interpreter']['label']}: {column}"
                for document, names in zip(documents, variants, strict=True)
                for column in (f"{names[0]}, ms", *names[1:])
            ),
        ],
        note=f"Least CPU time of {ROUNDS * TIMES} runs in {ROUNDS} processes, over that of the first column; no spread: "
        "differences of a percent are noise. Not chosen: what 99 requests in 100 pay. "
        + " ".join(
            told_of(d["interpreter"]["label"], d["sweep"]) for d in documents if "sweep" in d
        ),
    )
    for work in dict.fromkeys(name for each in works for name in each):
        row = [work]
        for each, names in zip(works, variants, strict=True):
            least = each.get(work)
            row += (
                [
                    f"{1000 * least[names[0]]:.2f}",
                    *(f"{least[name] / least[names[0]]:.3f}" for name in names[1:]),
                ]
                if least
                else ["-"] * len(names)
            )
        shown.rows.append(row)
    return shown


def told_of(label: str, sweep: dict[str, float]) -> str:
    """A sentence for the tracker of caches."""
    return (
        f"{label}: a sweep for caches takes {1000 * sweep['seconds']:.1f} ms in {sweep['steps']} steps, for "
        f"{sweep['modules']} modules and {sweep['watched']} containers."
    )


def ask(interpreter: Interpreter, what: str, variables: dict[str, str]) -> str:
    """What a process of one variant says."""
    command = [str(interpreter.python), "-m", "benchmarks.trackers", what]
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"trackers, {what}: {said(done.returncode, done.stderr)}")
    return done.stdout


def fill() -> None:
    from tests.end_to_end import books_app

    from fastalloc.demo.shop.populate import populate

    populate()
    books_app.fill()


def measure(variant: str) -> dict[str, float]:
    """Seconds of CPU of each piece of work, the least of a few."""
    import fastalloc
    from fastalloc import requests

    with tempfile.TemporaryDirectory() as folder:
        trackers = variant if variant in ("none", *ALONE) else "all"
        fastalloc.start(mode="light", dir=folder, request_percent=0, trackers=trackers)
        works = {**of_django(), **of_sqlalchemy()}
        first = requests.begin("GET /", named=False)
        first._choose("lot")  # hooks into the frameworks
        first.end()
        best = {}
        for name, work in works.items():
            for _ in range(TIMES):
                request = requests.begin("GET /benchmark/", named=False)
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


def sweep() -> dict[str, float]:
    """What a sweep is like in a process that has done all the work once; the least of a few."""
    import fastalloc
    from fastalloc.trackers import caches

    with tempfile.TemporaryDirectory() as folder:
        fastalloc.start(mode="light", dir=folder, trackers="none")  # nothing sweeps but we
        for work in (*of_django().values(), *of_sqlalchemy().values()):
            work()
        least, steps, watched = float("inf"), 0, 0
        for _ in range(TIMES):
            sweeps = caches.Sweeps()
            steps, began = 0, process_time()
            while not sweeps.finished:
                sweeps.step()
                steps += 1
            least, watched = min(least, process_time() - began), len(sweeps.by_name)
        fastalloc.stop()
    return {"seconds": least, "steps": steps, "modules": len(sys.modules), "watched": watched}


def of_django() -> dict[str, Callable[[], object]]:
    import django

    django.setup()
    from django.db import connection
    from django.test import Client

    from fastalloc.demo.shop import scenarios
    from fastalloc.demo.shop.models import OrderLine

    client = Client()
    client.login(username="admin", password=os.environ["SHOP_ADMIN_PASSWORD"])

    def page(path: str) -> Callable[[], object]:
        return lambda: client.get(path)

    def rows_of_cursor() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM shop_orderline LIMIT 3000")
            for _ in cursor:
                pass

    return {
        "250 queries of one row": scenarios.names_of_customers,
        "one query of 3,000 rows": lambda: list(OrderLine.objects.all()[:3000]),
        "3,000 rows, .iterator()": lambda: [0 for _ in OrderLine.objects.all()[:3000].iterator()],
        "3,000 rows of a raw cursor": rows_of_cursor,
        "a manager that prefetches": scenarios.order_numbers,
        "a page of orders": page("/orders/"),
        "a page with a large session": page("/scenarios/session/"),
        "a list page of the admin": page("/admin/shop/orderline/"),
    }


def of_sqlalchemy() -> dict[str, Callable[[], object]]:
    from sqlalchemy import select
    from tests.end_to_end import books_app

    def rows_of_core() -> None:
        with books_app.engine.connect() as connection:
            for _ in connection.execute(select(books_app.Book.__table__)):
                pass

    return {
        "SQLAlchemy, 150 lazy relations": books_app.names_of_authors,
        "SQLAlchemy, 6,000 rows": books_app.all_books,
        "SQLAlchemy Core, 6,000 rows iterated": rows_of_core,
        "SQLAlchemy, loader criteria": books_app.numbers_of_authors,
    }


if __name__ == "__main__":
    if sys.argv[1] == "fill":
        fill()
    elif sys.argv[1] == "caches":
        json.dump(sweep(), sys.stdout)
    else:
        json.dump(measure(sys.argv[1]), sys.stdout)
