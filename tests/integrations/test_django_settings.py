"""Django: the settings dict, its checks, manage.py, and what forces a request."""

from __future__ import annotations

import json

import pytest

from fastalloc import tokens
from tests.core.conftest import allocator, programs
from tests.core.programs import Programs

pytest.importorskip("django")
__all__ = ["allocator", "programs"]

SECRET = "the secret of this service"
PRELUDE = """
import json, os, sys, warnings
import django
import fastalloc
from tests.core.inside import answer
from tests.integrations.apps.django_site import configure
def site(**settings):
    configure(**settings)
    django.setup()
def checks():
    from django.core.checks import run_checks
    return sorted(message.id for message in run_checks() if message.id.startswith("fastalloc"))
"""


def run(programs: Programs, body: str, **more):
    return programs.run(PRELUDE + body, **more)


def test_the_settings_dict_starts_the_recorder_and_is_its_source(programs: Programs) -> None:
    answer = run(
        programs,
        """
site(FASTALLOC={"mode": "light", "max_frames": 9, "token_secret": "the secret of this service"})
s = fastalloc.status()
answer(active=s.active, frames=s.options["max_frames"], source=s.sources["max_frames"],
       interval=s.options["interval_bytes"], secret=s.options["token_secret"], checks=checks())
""",
        env={"FASTALLOC_INTERVAL_BYTES": "1MiB"},  # wins over settings
    ).answer
    assert answer["active"] and answer["frames"] == 9
    assert answer["source"] == "configure"
    assert answer["interval"] == 1 << 20
    assert answer["secret"] is True  # that it is set, not what it is
    assert answer["checks"] == []


@pytest.mark.slow
def test_without_a_mode_nothing_starts(programs: Programs) -> None:
    answer = run(
        programs,
        "site(FASTALLOC={'max_frames': 9}); answer(active=fastalloc.status().active, checks=checks())",
    ).answer
    assert answer == {"active": False, "checks": []}


def test_checks_say_what_is_wrong(programs: Programs) -> None:
    answer = run(
        programs,
        """
site()
from django.test import override_settings
OURS = "fastalloc.integrations.django.Middleware"
OTHER = "django.contrib.sessions.middleware.SessionMiddleware"
found = []
for settings in (
    {"FASTALLOC": {"mod": "light"}},
    {"FASTALLOC": {"max_frames": "many"}},
    {"FASTALLOC": ["light"]},
    {"MIDDLEWARE": [OTHER, OURS]},
    {"MIDDLEWARE": [], "FASTALLOC": {"staff_may_force": True}},
    {"MIDDLEWARE": []},
):
    with override_settings(**settings): found.append(checks())
answer(found=found)
""",
    ).answer
    wrong = ["fastalloc.W001"]
    assert answer["found"] == [wrong, wrong, wrong, ["fastalloc.W002"], ["fastalloc.W003"], []]


@pytest.mark.slow
def test_a_wrong_option_costs_the_options_and_not_the_service(programs: Programs) -> None:
    answer = run(
        programs,
        """
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    site(FASTALLOC={"mode": "light", "max_frames": "many"})
answer(told=[str(w.message) for w in told], checks=checks(), active=fastalloc.status().active)
""",
    ).answer
    assert answer["checks"] == ["fastalloc.W001"]
    assert not answer["active"]
    assert len(answer["told"]) == 1 and "max_frames" in answer["told"][0]


@pytest.mark.slow
def test_a_check_says_that_nothing_is_written(programs: Programs) -> None:
    answer = run(
        programs,
        "warnings.simplefilter('ignore'); site(FASTALLOC={'mode': 'light'}); answer(checks=checks())",
        env={"FASTALLOC_DIR": "/proc/nowhere"},
    ).answer
    assert answer["checks"] == ["fastalloc.W004"]


def test_manage_py_has_the_command_line(programs: Programs) -> None:
    done = run(
        programs,
        """
site(FASTALLOC={"mode": "light", "token_secret": "the secret of this service"})
from django.core.management import execute_from_command_line
import contextlib, io
said = []
for words in (["status", "--json"], ["token", "--route", "/a"], ["top", "--limit", "nonsense"]):
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        try: execute_from_command_line(["manage.py", "fastalloc", *words])
        except SystemExit as end: said.append([end.code, output.getvalue()])
answer(said=said)
""",
    )
    status, token, top = done.answer["said"]
    assert json.loads(status[1])["recordings"][0]["state"] == "running"
    assert tokens.check(token[1].strip(), SECRET) == "/a"
    assert [status[0], token[0], top[0]] == [0, 0, 2]


FORCED = """
from fastalloc import tokens
site(FASTALLOC={"mode": "light", "request_percent": 0, "token_secret": "the secret of this service",
                "staff_may_force": STAFF})
from django.core.management import call_command
call_command("migrate", verbosity=0)
from django.contrib.auth.models import User
from django.test import AsyncClient, Client
User.objects.create_user("ann", password="x", is_staff=True)
User.objects.create_user("bob", password="x")
good = tokens.make("the secret of this service", minutes=5)
of_page = tokens.make("the secret of this service", "/page/", minutes=5)
of_order = tokens.make("the secret of this service", "GET /orders/<int:number>/", minutes=5)
def client(user=""):
    client = Client()
    if user: assert client.login(username=user, password="x")
    return client
def chosen(client, header=None, path="/orders/1/"):
    headers = {} if header is None else {"X-Force-Memory-Profile": header}
    response = client.get(path, headers=headers)
    assert not [name for name, _ in response.items() if "fast" in name.lower()], response.headers
    return [response.json()["chosen"], response.headers.get("Vary", "")]
chosen(client()); chosen(client(), path="/async/1/")       # each route once a minute: done
"""


def test_a_signed_token_forces_and_nothing_else_does(programs: Programs) -> None:
    answer = run(
        programs,
        FORCED.replace("STAFF", "False")
        + """
anonymous, staff = client(), client("ann")
answer(good=chosen(anonymous, good), of_route=chosen(anonymous, of_order),
       worthless=[chosen(who, header) for who in (anonymous, staff)
                  for header in (None, "true", "1", "", of_page, good[:-2] + "AA", good + "x", "v1.9.x.y")])
""",
    ).answer
    assert answer["good"] == ["forced", ""]
    assert answer["of_route"] == ["forced", ""]
    assert answer["worthless"] == [["", ""]] * 16


@pytest.mark.slow
def test_staff_may_force_where_settings_say_so(programs: Programs) -> None:
    answer = run(
        programs,
        FORCED.replace("STAFF", "True")
        + """
import asyncio
from asgiref.sync import async_to_sync
async def ask_async(user):
    client = AsyncClient()
    await client.alogin(username=user, password="x")
    response = await client.get("/async/1/", headers={"X-Force-Memory-Profile": "true"})
    return response.json()["chosen"]
answer(staff=chosen(client("ann"), "true"), without=chosen(client("ann")), user=chosen(client("bob"), "true"),
       anonymous=chosen(client(), "true"),
       whoami=client("ann").get("/whoami/", headers={"X-Force-Memory-Profile": "1"}).headers.get("Vary"),
       plain=client("ann").get("/whoami/").headers.get("Vary"))
""",
    ).answer
    assert answer["staff"] == ["forced", ""]
    assert answer["without"] == answer["user"] == answer["anonymous"] == ["", ""]
    assert answer["whoami"] == answer["plain"] == "Cookie"  # the view's own look at the user shows


@pytest.mark.slow
def test_wrapped_as_a_whole_too_a_request_is_one_span(programs: Programs) -> None:
    answer = run(
        programs,
        """
site(FASTALLOC={"mode": "light"})
import io
from django.core.wsgi import get_wsgi_application
from fastalloc.integrations.django import route_name
from fastalloc.integrations.wsgi import WSGIMiddleware
application = WSGIMiddleware(get_wsgi_application(), name=route_name)
def get(path):
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "SERVER_NAME": "x", "SERVER_PORT": "80",
               "wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr, "wsgi.url_scheme": "http"}
    body = application(environ, lambda *a: None)
    list(body); body.close()
get("/page/"); get("/orders/3/")
records = fastalloc.snapshot().records
answer(spans=[str(r["name"]) for r in records if r["kind"] == "span"],
       phases=[str(r["name"]) for r in records if r["kind"] == "phase" and str(r["span_name"]) == "GET /page/"])
""",
    ).answer
    assert answer["spans"] == ["GET /page/", "GET /orders/<int:number>/"]
    assert answer["phases"] == [
        *("app", "middleware", "view", "render", "middleware", "stream", "tear-down"),
    ]


def test_an_error_page_shows_the_programs_frames_alone(programs: Programs) -> None:
    answer = run(
        programs,
        """
site(FASTALLOC={"mode": "aggressive"}, DEBUG=True)
from django.test import AsyncClient, Client
page = Client(raise_request_exception=False).get("/fails/").content.decode()
import asyncio
async def ask(): return (await AsyncClient(raise_request_exception=False).get("/fails/")).content.decode()
other = asyncio.run(ask())
frames = lambda page: [line for line in page.splitlines() if 'File "' in line]
answer(told=["LookupError" in page, "LookupError" in other], ours=[line for line in frames(page) + frames(other) if "src/fastalloc" in line])
""",
    ).answer
    assert answer == {"told": [True, True], "ours": []}


def test_the_middleware_alone_starts_the_recorder_and_brings_the_checks(programs: Programs) -> None:
    answer = run(
        programs,
        """
site(INSTALLED_APPS=[], MIDDLEWARE=["fastalloc.integrations.django.Middleware"],
     FASTALLOC={"mode": "light", "max_frames": 9})
before = fastalloc.status().active
from django.test import Client
said = Client().get("/page/").content.decode()
s = fastalloc.status()
from django.core.checks import run_checks
from django.test import override_settings
with override_settings(FASTALLOC={"mod": "light"}): wrong = checks()
fastalloc.stop()
Client().get("/page/")                                       # who has stopped it wants it stopped
answer(before=before, said=said, active=s.active, frames=s.options["max_frames"], wrong=wrong,
       stopped=not fastalloc.status().active,
       names=[str(r["name"]) for r in fastalloc.read(s.recording).records if r["kind"] == "span"])
""",
    ).answer
    assert answer == {
        "before": False,
        "said": "hello",
        "active": True,
        "frames": 9,
        "wrong": ["fastalloc.W001"],
        "stopped": True,
        "names": ["GET /page/"],
    }


@pytest.mark.slow
def test_the_look_whether_staff_sends_it_is_not_the_requests(programs: Programs) -> None:
    answer = run(
        programs,
        FORCED.replace("STAFF", "True")
        + """
from django.test.utils import CaptureQueriesContext
from django.db import connection
said = []
requests = fastalloc.requests
requests.listen(lambda r, totals: said.append([r.chosen, r.totals()[2], r.digests.get("queries", {}).get("count", 0)]))
def ask(client, header):
    headers = {"X-Force-Memory-Profile": header} if header else {}
    with CaptureQueriesContext(connection) as queries: client.get("/orders/1/", headers=headers)
    return len(queries)
staff = client("ann")
ask(staff, good); ask(staff, "1")                            # the first use of anything allocates more
del said[:]
by_token, by_staff = ask(staff, good), ask(staff, "1")
answer(queries=[by_token, by_staff], said=said)
""",
    ).answer
    assert answer["queries"] == [0, 2]  # its session, its user
    (reason, by_token, counted), (other, by_staff, counted_too) = answer["said"]
    assert reason == other == "forced"
    assert counted == counted_too == 0
    assert by_staff < by_token + 10_000  # a session and a user take 100 kB to fetch


CACHING = """
site(INSTALLED_APPS=[], FASTALLOC={"mode": "light"}, MIDDLEWARE=[
    "django.middleware.cache.UpdateCacheMiddleware",         # Django wants it first
    "fastalloc.integrations.django.Middleware",
    "django.middleware.cache.FetchFromCacheMiddleware"])
from django.test import Client, RequestFactory
"""


@pytest.mark.slow
def test_a_response_can_be_cached_by_a_middleware_around_ours(programs: Programs) -> None:
    answer = run(
        programs,
        CACHING
        + """
answers = [Client().get("/page/") for _ in range(2)]
answer(said=[a.content.decode() for a in answers], cached=["Age" in a.headers or "Expires" in a.headers for a in answers],
       spans=[str(r["name"]) for r in fastalloc.snapshot().records if r["kind"] == "span"])
""",
    ).answer
    assert answer == {
        "said": ["hello"] * 2,
        "cached": [True] * 2,
        "spans": ["GET /page/"] * 2,
    }


@pytest.mark.slow
def test_a_response_that_nobody_closes_costs_the_next_request_nothing(programs: Programs) -> None:
    answer = run(
        programs,
        CACHING
        + """
from django.http import HttpResponse
from fastalloc import requests
from fastalloc.integrations.django import Middleware
ended = []
requests.listen(lambda r, totals: ended.append([r.name, r.ended]))
middleware = Middleware(lambda request: HttpResponse("x"))
for path in ("/page/", "/orders/1/", "/whoami/"): middleware(RequestFactory().get(path))
answer(ended=ended, current=requests.current().name)
""",
    ).answer
    assert answer["ended"] == [["GET /page/", True], ["GET /orders/<int:number>/", True]]
    assert answer["current"] == "GET /whoami/"
