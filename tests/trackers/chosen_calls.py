"""One request with some of the trackers: what it leaves."""

from __future__ import annotations

import sys

from fastalloc import dumps, requests
from tests.trackers import django_site
from tests.trackers.looking import answer, start

django_site.make()

from django.db.models import QuerySet  # noqa: E402

from tests.trackers.library.models import Book  # noqa: E402


def main(folder: str, trackers: str, mode: str = "aggressive", growing: str = "") -> None:
    start(folder, mode=mode, trackers=trackers, request_percent=0)
    request = requests.begin("GET (no route)", named=False)  # not looked at for its route
    books = list(Book.objects.all()[:10])
    kept = [bytes(1 << 20) for _ in range(40 if growing else 0)]
    for _ in range(20):
        books = list(Book.objects.all()[:10])
    request.end()
    del kept
    from fastalloc.config import TRACKERS
    from fastalloc.trackers import work

    answer(
        digests=sorted(request.digests),
        sections=[name for name in TRACKERS if name in dumps.sections],
        is_hooked=hasattr(QuerySet._fetch_all, "__wrapped__"),
        running=len(work.running()),
        books=len(books),
        queries=request.digests.get("queries", {}).get("count", 0),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
