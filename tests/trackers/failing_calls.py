"""Trackers whose every step raises, one after the other: what the program gets, and what becomes of them."""

from __future__ import annotations

import sys
import time

from fastalloc import breaker, requests
from tests.trackers import django_site
from tests.trackers.looking import answer, start

django_site.make(apps=("django.contrib.auth", "django.contrib.admin"))

from django.contrib.admin import AdminSite  # noqa: E402
from django.contrib.sessions.backends.db import SessionStore  # noqa: E402
from django.db import connection  # noqa: E402
from django.test import RequestFactory  # noqa: E402
from django.test.utils import CaptureQueriesContext  # noqa: E402

from tests.trackers.library.models import Author, Book, Tag  # noqa: E402

# What a tracker does of its own, by the names under which its hooks and others call it.
STEPS = {
    "queries": ("begin", "more_of", "count_rows", "end", "finish", "section"),
    "models": ("fetched", "fetched_with", "some_of", "streamed", "changed", "finish", "section"),
    "global_scopes": ("bounded_label", "applied", "count", "finish", "section"),
    "sessions": ("Section", "finish", "section"),
    "admin": ("of", "fetched", "finish", "section"),
    "caches": ("_named", "finish", "section"),
}
TIMES = 12  # a breaker opens at ten failures in a row


def work() -> list[object]:
    session = SessionStore()
    session["cart"] = [1, 2, 3]
    session.save()
    request = RequestFactory().get("/")
    request.user = None
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM library_book WHERE id < 9")
        rows = [*cursor]
    tag = Tag.objects.create(word="new")
    tag.delete()
    return [
        [book.title for book in Book.printed.all()[:5]],
        [author.books.count() for author in Author.objects.all()[:20]],
        [book.author.name for book in Book.objects.select_related("author")[:3]],
        Book.objects.get(pk=1).author.name,
        [book.pk for book in Book.objects.iterator()][:3],
        Book.objects.filter(pk=1).update(pages=7),
        SessionStore(session.session_key)["cart"],
        AdminSite().get_app_list(request),
        rows,
    ]


def counted() -> tuple[list[object], int]:
    with CaptureQueriesContext(connection) as captured:
        return work(), len(captured)


def fails(*args: object, **kwargs: object) -> None:
    raise LookupError("of the tracker's own")


def open_breakers() -> list[str]:
    return sorted(
        b.layer.removeprefix("tracker ")
        for b in breaker.breakers()
        if b.layer.startswith("tracker ") and b.state != "closed"
    )


def with_failing(name: str) -> dict[str, object]:
    """Requests while the tracker fails, and what is closed again after it."""
    from fastalloc import trackers

    module = getattr(trackers, name)
    kept = {step: getattr(module, step) for step in STEPS[name]}
    for step in kept:
        setattr(module, step, fails)
    results = []
    for _ in range(TIMES):
        request = requests.begin("GET /")
        results.append(counted())
        request.end()
    if name == "caches":  # its steps are the watcher's
        until = time.monotonic() + 5
        while not open_breakers() and time.monotonic() < until:
            time.sleep(0.02)
    opened = open_breakers()
    for step, function in kept.items():
        setattr(module, step, function)
    of_tracker = breaker.Breaker(f"tracker {name}")
    of_tracker._is_open, of_tracker.failures = False, 0
    return {
        "opened": opened,
        "results": results[0][0],
        "queries_run": sorted({queries for _, queries in results}),
        "same_each_time": all(result == results[0][0] for result, _ in results),
        "digests": sorted(request.digests),
    }


def main(folder: str) -> None:
    from fastalloc.trackers import caches

    caches.STEP_EVERY_SECONDS, caches.SWEEP_SECONDS = 0.02, 0.0
    alone, queries_alone = counted()
    start(folder)
    requests.begin("GET /first/").end()
    first = requests.begin("GET /first/")
    work()
    first.end()
    answer(
        trackers={name: with_failing(name) for name in STEPS},
        results_alone=alone,
        queries_alone=queries_alone,
        digests=sorted(first.digests),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
