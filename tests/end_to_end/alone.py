"""What the guilty work of each scenario allocates, alone in a process and looked at by nobody: exact bytes.

python -m tests.end_to_end.alone django|fastapi FOLDER
"""

from __future__ import annotations

import asyncio
import json
import sys

import fastalloc
from fastalloc import _core

CHANGED = 17  # the order line that is changed in the admin


def bytes_of(work) -> int:
    work()
    work()
    before = _core.thread_totals()[1]
    work()
    return _core.thread_totals()[1] - before


async def bytes_of_async(work) -> int:
    """By a span, since what the loop itself does is nobody's."""
    from tests.end_to_end import books_app

    await work()
    await work()
    with fastalloc.span("alone") as span:
        await work()
    await books_app.async_engine.dispose()
    return span.totals()[2]


def of_django() -> dict[str, int]:
    import django

    django.setup()
    from django.contrib import admin
    from django.contrib.auth import get_user_model
    from django.contrib.sessions.backends.db import SessionStore
    from django.test import RequestFactory

    from fastalloc.demo.shop import scenarios
    from fastalloc.demo.shop.models import OrderLine

    session = SessionStore()
    scenarios.remember_permissions(session)
    session.save()
    request = RequestFactory().get("/admin/shop/orderline/add/")
    request.user = get_user_model().objects.get(username="admin")
    kind = admin.site._registry[OrderLine].get_form(request)
    added, changed = kind(), kind(instance=OrderLine.objects.get(pk=CHANGED))
    return {
        "scope": bytes_of(scenarios.order_numbers),
        "repeats": bytes_of(scenarios.names_of_customers),
        "large": bytes_of(scenarios.pieces_sold),
        "session save": bytes_of(session.save),
        "session load": bytes_of(SessionStore(session.session_key).load),
        "selects of add": bytes_of(lambda: (str(added["order"]), str(added["product"]))),
        "selects of change": bytes_of(lambda: (str(changed["order"]), str(changed["product"]))),
    }


def of_fastapi() -> dict[str, int]:
    from tests.end_to_end import books_app

    books_app.first_of_all()
    return {
        "scope": bytes_of(books_app.numbers_of_authors),
        "repeats": bytes_of(books_app.names_of_authors),
        "large": bytes_of(books_app.all_books),
        "async repeats": asyncio.run(bytes_of_async(books_app.names_of_authors_async)),
        "async large": asyncio.run(bytes_of_async(books_app.all_books_async)),
    }


if __name__ == "__main__":
    which, folder = sys.argv[1:]
    fastalloc.start(mode="aggressive", dir=folder, trackers="none")
    json.dump(of_django() if which == "django" else of_fastapi(), sys.stdout)
