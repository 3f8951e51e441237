"""A Django of its own for one process: the library's tables in memory, filled."""

from __future__ import annotations

import os

AUTHORS, BOOKS, TAGS = 40, 1200, 3


def make(database: str = ":memory:", apps: tuple[str, ...] = (), **settings: object) -> None:
    """Set Django up and make the tables."""
    import django
    from django.conf import settings as django_settings

    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    django_settings.configure(
        SECRET_KEY="only for this test",
        INSTALLED_APPS=[
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "tests.trackers.library",
            *apps,
        ],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": database}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        LOGGING_CONFIG=None,
        **settings,
    )
    django.setup()
    from django.core.management import call_command

    call_command("migrate", run_syncdb=True, verbosity=0)
    fill()


def fill() -> None:
    from tests.trackers.library.models import Author, Book, Tag

    authors = Author.objects.bulk_create(Author(name=f"author {n}") for n in range(AUTHORS))
    books = Book.objects.bulk_create(
        Book(author=authors[n % AUTHORS], title=f"title {n}", is_printed=n % 2 == 0)
        for n in range(BOOKS)
    )
    tags = Tag.objects.bulk_create(Tag(word=f"tag {n}") for n in range(TAGS))
    Book.tags.through.objects.bulk_create(
        Book.tags.through(book=book, tag=tags[n % TAGS]) for n, book in enumerate(books)
    )
