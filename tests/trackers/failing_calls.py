"""Trackers whose every step raises: what the program gets, and what becomes of them."""

from __future__ import annotations

import sys

from fastalloc import breaker, requests
from tests.trackers import django_site
from tests.trackers.looking import answer, start

django_site.make()

from django.db import connection  # noqa: E402
from django.test.utils import CaptureQueriesContext  # noqa: E402

from tests.trackers.library.models import Author, Book  # noqa: E402


def work() -> list[object]:
    return [
        [book.title for book in Book.printed.all()[:5]],
        [author.books.count() for author in Author.objects.all()[:20]],
        Book.objects.get(pk=1).author.name,
        [book.pk for book in Book.objects.iterator()][:3],
        Book.objects.filter(pk=1).update(pages=7),
    ]


def counted() -> tuple[list[object], int]:
    with CaptureQueriesContext(connection) as captured:
        return work(), len(captured)


def main(folder: str) -> None:
    alone, queries_alone = counted()
    start(folder)
    requests.begin("GET /first/").end()

    def fails(*args: object, **kwargs: object) -> None:
        raise LookupError("of the tracker's own")

    from fastalloc.trackers import global_scopes, queries

    for module in (queries, global_scopes):
        for name in ("begin", "end", "of", "shape_of", "names_of", "finish", "_begin", "_end"):
            if hasattr(module, name):
                setattr(module, name, fails)
    request = requests.begin("GET /")
    results, queries_run = counted()
    request.end()
    states = {b.layer: b.state for b in breaker.breakers() if b.layer.startswith("tracker ")}
    answer(
        results=results,
        results_alone=alone,
        queries_run=queries_run,
        queries_alone=queries_alone,
        digests=sorted(request.digests),
        states={name: states.get(name, "closed") for name in SHOWN},
    )


SHOWN = ("tracker queries", "tracker sessions")

if __name__ == "__main__":
    main(*sys.argv[1:])
