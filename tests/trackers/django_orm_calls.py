"""Queries of a Django app, each alone and as a request: printed for test_django_orm.py."""

from __future__ import annotations

import sys
import traceback

import fastalloc
from tests.trackers import django_site
from tests.trackers.looking import answer, look, start

django_site.make()

from asgiref.sync import async_to_sync  # noqa: E402
from django.contrib.sessions.backends.db import SessionStore  # noqa: E402
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


PERMISSIONS = {str(number): "x" * 20 for number in range(5000)}
NUMBERS = (
    "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 3000) "
    "SELECT n, 'row ' || n FROM t"
)
RETURNING = (
    "INSERT INTO library_tag (word) SELECT title FROM library_book WHERE true RETURNING id, word"
)


def cursor_of(statement):
    cursor = connection.cursor()
    cursor.execute(statement)
    return cursor


def cursor_with():
    return cursor_of(NUMBERS).fetchall()


def cursor_iterated():
    for _ in cursor_of(NUMBERS):
        pass


def cursor_by_parts():
    cursor = cursor_of(NUMBERS)
    while cursor.fetchmany(500):
        pass


def cursor_by_rows():
    cursor = cursor_of(NUMBERS)
    while cursor.fetchone():
        pass


def cursor_by_rows_in_part():
    cursor = cursor_of(NUMBERS)
    for _ in range(100):
        cursor.fetchone()


def cursor_returning():
    with transaction.atomic():
        cursor = cursor_of(RETURNING)
        for _ in cursor:
            pass
        cursor_of(f"DELETE FROM library_tag WHERE id > {django_site.TAGS}")


def cursor_without_result():
    cursor = cursor_of("SELECT 1")
    cursor.execute("UPDATE library_book SET pages = 100 WHERE id < 4")
    try:
        cursor.fetchone()
    except DatabaseError:
        pass


def written():
    with transaction.atomic():
        tag = Tag.objects.create(word="new")
        tag.word = "newer"
        tag.save()
        Tag.objects.bulk_create(Tag(word=f"many {n}") for n in range(50))
        Book.objects.filter(pk__lte=7).update(pages=100)
        Tag.objects.filter(pk__gte=tag.pk).delete()


def first_save():
    session = SessionStore()
    session["permissions"] = PERMISSIONS
    session.save()  # -> create -> save


def first_asave():
    session = SessionStore()
    session["permissions"] = PERMISSIONS
    async_to_sync(session.asave)()


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
        *(cursor_with, cursor_iterated, cursor_by_parts, cursor_by_rows, cursor_by_rows_in_part),
        *(cursor_returning, cursor_without_result, first_save, first_asave),
        *(nothing, fails),
    ):
        cases[work.__name__] = look(f"GET /{work.__name__}/", work)
    cases["fails"]["files"] = fails.files
    dump = fastalloc.write_dump()
    answer(**cases, dump=dump, recording=fastalloc.status().recording)


if __name__ == "__main__":
    main(*sys.argv[1:])
