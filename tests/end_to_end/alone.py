"""What the guilty work of each scenario allocates, alone in a process and looked at by nobody: exact bytes.

python -m tests.end_to_end.alone django|fastapi FOLDER
"""

from __future__ import annotations

import json
import sys

import fastalloc
from fastalloc import _core


def bytes_of(work) -> int:
    work()
    work()
    before = _core.thread_totals()[1]
    work()
    return _core.thread_totals()[1] - before


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
    form = admin.site._registry[OrderLine].get_form(request)()
    return {
        "scope": bytes_of(scenarios.order_numbers),
        "repeats": bytes_of(scenarios.names_of_customers),
        "large": bytes_of(scenarios.pieces_sold),
        "session save": bytes_of(session.save),
        "session load": bytes_of(SessionStore(session.session_key).load),
        "selects": bytes_of(lambda: (str(form["order"]), str(form["product"]))),
    }


def of_fastapi() -> dict[str, int]:
    from tests.end_to_end import books_app

    books_app.first_of_all()
    return {
        "scope": bytes_of(books_app.numbers_of_authors),
        "repeats": bytes_of(books_app.names_of_authors),
        "large": bytes_of(books_app.all_books),
    }


if __name__ == "__main__":
    which, folder = sys.argv[1:]
    fastalloc.start(mode="aggressive", dir=folder, trackers="none")
    json.dump(of_django() if which == "django" else of_fastapi(), sys.stdout)
