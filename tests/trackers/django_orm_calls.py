"""Queries of a Django app, each alone and as a request: printed for test_django_orm.py."""

from __future__ import annotations

import sys
import traceback

import fastalloc
from tests.trackers import django_site
from tests.trackers.looking import answer, look, start

django_site.make()

from django.db import DatabaseError, connection, transaction  # noqa: E402

from tests.trackers.library.models import Author, Book, Tag  # noqa: E402


def large():
    return list(Book.objects.all())


def repeated():
    for book in list(Book.objects.all()[:100]):
        _ = book.author.name


def repeated_backwards():
    for author in Author.objects.all():
        _ = author.books.count()


def joined():
    return list(Book.objects.select_related("author")[:300])


def prefetched():
    return list(Author.objects.prefetch_related("books"))


def values():
    return list(Book.objects.values("id", "title"))


def streamed():
    kept = []
    for book in Book.objects.iterator(chunk_size=100):
        if book.pk % 4 == 0:
            kept.append(book)
    return kept


def streamed_in_part():
    rows = Book.objects.iterator()
    next(rows)
    rows.close()


def raw_cursor():
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM library_book WHERE title <> 'hunter2' AND pages > %s", [1])
        return cursor.fetchall()


def written():
    with transaction.atomic():
        tag = Tag.objects.create(word="new")
        tag.word = "newer"
        tag.save()
        Tag.objects.bulk_create(Tag(word=f"many {n}") for n in range(50))
        Book.objects.filter(pk__lte=7).update(pages=100)
        Tag.objects.filter(pk__gte=tag.pk).delete()


def through_a_manager():
    return list(Book.printed.all())


def through_a_querying_manager():
    for _ in range(3):
        list(Book.counting.all()[:10])


def nothing():
    list(Book.objects.none())
    list(Book.objects.filter(pk__in=[]))


def fails():
    try:
        list(Book.objects.extra(where=["no_such_column = 1"]))
    except DatabaseError as error:
        frames = traceback.extract_tb(error.__traceback__)
        fails.files = [frame.filename for frame in frames]
        cause = error.__cause__
        fails.files += [frame.filename for frame in traceback.extract_tb(cause.__traceback__)]


def main(folder: str) -> None:
    start(folder)
    cases = {}
    for work in (
        *(large, repeated, repeated_backwards, joined, prefetched, values, streamed),
        *(streamed_in_part, raw_cursor, written, through_a_manager, through_a_querying_manager),
        *(nothing, fails),
    ):
        cases[work.__name__] = look(f"GET /{work.__name__}/", work)
    cases["fails"]["files"] = fails.files
    dump = fastalloc.write_dump()
    answer(**cases, dump=dump, recording=fastalloc.status().recording)


if __name__ == "__main__":
    main(*sys.argv[1:])
