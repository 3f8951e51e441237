"""The shop's five scenarios, each guilty work alone and its page as a request in detail, in one process."""

from __future__ import annotations

import os
import sys

import fastalloc
from fastalloc import _core, requests
from tests.trackers.looking import answer, bytes_of

LIST, ADD = "/admin/shop/orderline/", "/admin/shop/orderline/add/"


def selects_alone():
    """The add page's two selects, and nothing else of it."""
    from django.contrib import admin
    from django.contrib.auth import get_user_model
    from django.test import RequestFactory

    from fastalloc.demo.shop.models import OrderLine

    request = RequestFactory().get(ADD)
    request.user = get_user_model().objects.get(username="admin")
    form = admin.site._registry[OrderLine].get_form(request)()
    return lambda: (str(form["order"]), str(form["product"]))


def main(folder: str) -> None:
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "fastalloc.demo.project.settings",
        "SHOP_DATABASE": f"{folder}/shop.sqlite3",
        "SHOP_ADMIN_PASSWORD": "only for this test",
        "SHOP_SECRET_KEY": "only for this test",
    }
    from django.conf import settings

    from fastalloc.demo.shop.populate import populate

    settings.INSTALLED_APPS.insert(0, "fastalloc.integrations.django")
    fastalloc.start(mode="aggressive", dir=folder, trackers="none")
    populate()
    settings.MIDDLEWARE.insert(0, "fastalloc.integrations.django.Middleware")
    from django.contrib.sessions.backends.db import SessionStore
    from django.test import Client

    from fastalloc.demo.shop import scenarios

    ended: list[requests.Request] = []
    requests.observe("test", ended=ended.append)
    alone = {
        "scope": bytes_of(scenarios.order_numbers),
        "repeats": bytes_of(scenarios.names_of_customers),
        "large": bytes_of(scenarios.pieces_sold),
    }
    session = SessionStore()
    scenarios.remember_permissions(session)
    session.save()
    alone["session save"] = bytes_of(session.save)
    alone["session load"] = bytes_of(SessionStore(session.session_key).load)
    alone["foreign-key selects"] = bytes_of(selects_alone())
    fastalloc.stop()
    fastalloc.start(mode="aggressive", dir=folder)
    requests.request._load_trackers()

    client = Client()
    client.login(username="admin", password="only for this test")
    cases = {}
    for name, path in {
        "session": "/scenarios/session/",
        "scope": "/scenarios/scope/",
        "repeats": "/scenarios/repeats/",
        "large": "/scenarios/large/",
        "innocent": "/scenarios/innocent/",
        "list": LIST,
        "add": ADD,
    }.items():
        for _ in range(2):
            assert client.get(path).status_code == 200, path
        request = ended[-1]
        cases[name] = {"route": request.route, "span": request.totals()[2], **request.digests}
    assert _core.is_active()
    answer(
        **cases, alone=alone, dump=fastalloc.write_dump(), recording=fastalloc.status().recording
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
