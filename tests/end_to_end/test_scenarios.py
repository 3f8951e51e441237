"""The seed's five scenarios under a real uvicorn, 50 requests at once, innocent ones among them.

For each: the recording and a dump of the running server name the guilty query, manager, session or stage, with
bytes within 15 % of those of the same work alone in a process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import fastalloc
from fastalloc.demo import servers
from fastalloc.demo.load import login, request
from fastalloc.demo.servers import serving

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
AT_ONCE = 50
TOLERANCE = 0.15
ADD = "/admin/shop/orderline/add/"
SHOP_PATHS = (
    *(["/scenarios/session/"] * 4 + ["/scenarios/scope/"] * 4 + ["/scenarios/repeats/"] * 4),
    *(["/scenarios/large/"] * 2 + [ADD] * 2),
)
BOOKS_PATHS = (*["/repeats/"] * 6, *["/scope/"] * 6, *["/large/"] * 4)


class Seen:
    """What a server under load left behind, and what its guilty work allocates alone."""

    def __init__(self, dump: str, recording: Path, alone: dict[str, int]) -> None:
        self.told = fastalloc.read(dump).dump["trackers"]
        self.alone = alone
        self.snapshot = fastalloc.read(recording)
        self.phases = {
            (str(p["span_name"]), str(p["name"])): (int(p["entered"]), int(p["bytes"]))
            for p in self.snapshot.phases
        }

    def requests(self, route: str) -> int:
        spans = self.snapshot.records
        return sum(r["kind"] == "span" and str(r["name"]) == route for r in spans)

    def phase_bytes(self, route: str, *names: str) -> float:
        """Of one request on average: phases whose names begin so."""
        sizes = [
            size
            for (span, name), (_, size) in self.phases.items()
            if span == route and name.startswith(names)
        ]
        return sum(sizes) / self.requests(route)

    def query(self, kind: str, route: str) -> dict:
        """The first repeat or large result, which one of the route ran most."""
        return next(q for q in self.told["queries"][kind] if q["most_in"] == route)

    def near(self, name: str):
        return pytest.approx(self.alone[name], rel=TOLERANCE)


def python(*arguments: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def load(port: int, guilty: tuple[str, ...], innocent: tuple[str, ...], cookie: str = "") -> None:
    """The guilty ones one time to warm up, then all at once, with twice as many innocent ones around
    each."""
    headers = {"Cookie": cookie} if cookie else {}

    def ask(path: str) -> int:
        return request(port, "GET", path, headers)[0]

    paths = [p for path in guilty for p in (innocent[0], path, *innocent)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        statuses = list(pool.map(ask, paths))
    assert set(statuses) == {200}


def seen(server, folder: Path, environment: dict[str, str], which: str) -> Seen:
    pid = server.process.pid
    told = python("-m", "fastalloc", "dump", "--json", str(pid), environment=environment)
    recording = next(folder.glob(f"fastalloc-{pid}-*.recording"))
    scratch = folder / "alone"
    scratch.mkdir(mode=0o700)
    quiet = {**environment, "FASTALLOC_MODE": "", "FASTALLOC_DIR": str(scratch)}
    alone = python("-m", "tests.end_to_end.alone", which, str(scratch), environment=quiet)
    return Seen(json.loads(told)["path"], recording, json.loads(alone))


@pytest.fixture(scope="module")
def shop_seen(shop, tmp_path_factory) -> Seen:
    pytest.importorskip("uvicorn")
    folder = tmp_path_factory.mktemp("shop_recordings")
    folder.chmod(0o700)
    environment = {**shop, "FASTALLOC_MODE": "aggressive", "FASTALLOC_DIR": str(folder)}
    log = tmp_path_factory.mktemp("log") / "server.log"
    with serving("uvicorn", log, environment, lambda: None) as server:
        cookie = login(server.port, shop["SHOP_ADMIN_PASSWORD"])
        load(server.port, SHOP_PATHS, ("/scenarios/innocent/", "/api/products.json"), cookie)
        return seen(server, folder, environment, "django")


@pytest.fixture(scope="module")
def books_seen(tmp_path_factory) -> Seen:
    pytest.importorskip("fastapi")
    pytest.importorskip("sqlalchemy")
    folder = tmp_path_factory.mktemp("books_recordings")
    folder.chmod(0o700)
    environment = {
        "BOOKS_DATABASE": str(tmp_path_factory.mktemp("books") / "books.sqlite3"),
        "FASTALLOC_MODE": "aggressive",
        "FASTALLOC_DIR": str(folder),
        "PYTHONPATH": str(ROOT),
    }
    fill = "from tests.end_to_end import books_app; books_app.fill()"
    python("-c", fill, environment={**environment, "FASTALLOC_MODE": ""})
    log = tmp_path_factory.mktemp("log") / "server.log"
    command = list(servers.COMMANDS["uvicorn"])
    command[-1] = "tests.end_to_end.books_app:application"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(servers.COMMANDS, "books", command)
        patch.setitem(servers._READY, "books", servers._READY["uvicorn"])
        with serving("books", log, environment, lambda: None) as server:
            load(server.port, BOOKS_PATHS, ("/innocent/", "/innocent/7"))
            return seen(server, folder, environment, "fastapi")


# --- Django -----------------------------------------------------------------------------------------


def test_session_bloat(shop_seen: Seen) -> None:
    route = "GET /scenarios/session/"
    largest = shop_seen.told["sessions"]["largest"][0]
    assert next(iter(largest["largest"])) == "permissions_cache"
    loads = [s["load_bytes"] for s in shop_seen.told["sessions"]["largest"]]
    assert max(loads) == shop_seen.near("session load")  # the first one found it still small
    sessions = [s for s in shop_seen.told["sessions"]["largest"] if s["route"] == route]
    assert sessions and sessions[0]["save_bytes"] == shop_seen.near("session save")
    # Other pages load the same session; the phase without its query is nearly all of it.
    assert shop_seen.phase_bytes(route, "session save") == shop_seen.near("session save")


def test_global_scope_explosion(shop_seen: Seen) -> None:
    route = "GET /scenarios/scope/"
    scope = shop_seen.told["global_scopes"]["scopes"][
        "shop.WholeOrder, fastalloc.demo.shop.models.Whole"
    ]
    assert scope["bytes"] / scope["applied"] == shop_seen.near("scope")
    assert shop_seen.phase_bytes(route, "query", "scope") == shop_seen.near("scope")
    fetched = shop_seen.told["models"]["models"]["shop.WholeOrder"]
    assert fetched["fetched"] == 300 * shop_seen.requests(route)


def test_repeated_queries(shop_seen: Seen) -> None:
    route = "GET /scenarios/repeats/"
    repeat = shop_seen.query("repeats", route)
    assert repeat["most_in_one_request"] == 250 and "shop_customer" in repeat["statement"]
    assert "scenarios.py:" in repeat["at"]
    assert shop_seen.phase_bytes(route, "query") == shop_seen.near("repeats")
    guilty = (
        f"query shop.Customer at fastalloc/demo/shop/scenarios.py:{repeat['at'].rpartition(':')[2]}"
    )
    entered = sum(n for (span, name), (n, _) in shop_seen.phases.items() if name == guilty)
    assert entered == 250 * shop_seen.requests(route) == repeat["count"]


def test_large_result(shop_seen: Seen) -> None:
    route = "GET /scenarios/large/"
    large = shop_seen.query("large_results", route)
    assert large["largest_rows"] == 12_000 and "shop_orderline" in large["statement"]
    assert large["bytes"] / large["count"] == shop_seen.near("large")
    assert shop_seen.phase_bytes(route, "query shop.OrderLine") == shop_seen.near("large")


def test_admin_overhead(shop_seen: Seen) -> None:
    route, told = next(iter(shop_seen.told["admin"]["routes"].items()))
    assert route.endswith(ADD)
    stages = told["stages"]
    assert next(iter(stages)) == "foreign-key selects"
    assert stages["foreign-key selects"]["bytes"] / told["requests"] == shop_seen.near("selects")
    recorded = shop_seen.phase_bytes(route, "admin foreign-key selects")
    assert recorded > 0.6 * shop_seen.alone["selects"]


# --- SQLAlchemy -------------------------------------------------------------------------------------


def test_global_scope_explosion_of_sqlalchemy(books_seen: Seen) -> None:
    (name,) = books_seen.told["global_scopes"]["scopes"]
    scope = books_seen.told["global_scopes"]["scopes"][name]
    assert name == "with_loader_criteria(tests.end_to_end.books_app.Author)"
    asked = books_seen.requests("GET /scope/")
    assert scope["bytes"] / asked == books_seen.near("scope")
    assert books_seen.phase_bytes("GET /scope/", "query") == books_seen.near("scope")
    fetched = books_seen.told["models"]["models"]
    assert fetched["tests.end_to_end.books_app.Author"]["fetched"] >= 100 * asked


def test_repeated_queries_of_sqlalchemy(books_seen: Seen) -> None:
    repeat = books_seen.query("repeats", "GET /repeats/")
    assert repeat["most_in_one_request"] == 150 and "FROM author" in repeat["statement"]
    assert "books_app.py:" in repeat["at"]
    assert books_seen.phase_bytes("GET /repeats/", "query") == books_seen.near("repeats")


def test_large_result_of_sqlalchemy(books_seen: Seen) -> None:
    large = books_seen.query("large_results", "GET /large/")
    assert large["largest_rows"] == 6000 and "FROM book" in large["statement"]
    assert large["bytes"] / large["count"] == books_seen.near("large")
    assert books_seen.phase_bytes("GET /large/", "query") == books_seen.near("large")


@pytest.mark.parametrize("which", ["shop_seen", "books_seen"])
def test_the_innocent_beside_them_are_not_accused(which: str, request) -> None:
    found: Seen = request.getfixturevalue(which)
    accused = [*found.told["queries"]["repeats"], *found.told["queries"]["large_results"]]
    assert accused and not [query for query in accused if "innocent" in query["most_in"]]
