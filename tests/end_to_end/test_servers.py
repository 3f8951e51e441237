"""A real Django under real servers with the recorder on: every request is a span of its route."""

from __future__ import annotations

import re
from collections import Counter

import pytest

import fastalloc
from fastalloc.demo.load import MIX, drive, login, path_of, request
from fastalloc.demo.servers import serving

ROUNDS = 3
ROUTES = {
    r"/": "/",
    r"/orders/\?.*": "/orders/",
    r"/orders/\d+/": "/orders/<int:order_id>/",
    r"/customers/\d+/": "/customers/<int:customer_id>/",
    r"/reports/statements/\d+/": "/reports/statements/<int:customer_id>/",
    r"/admin/shop/order/": "/admin/shop/order/",
    r"/admin/shop/customer/\?.*": "/admin/shop/customer/",
    r"/api/products.json": "/api/products.json",
    r"/export/orders.csv": "/export/orders.csv",
}


def route_of(path: str) -> str:
    return next(route for pattern, route in ROUTES.items() if re.fullmatch(pattern, path))


EXPECTED = Counter(f"GET {route_of(path_of(n))}" for n in range(ROUNDS * len(MIX)))
EXPECTED["GET /admin/login/"] = 1
EXPECTED["POST /admin/login/"] = 1


@pytest.fixture(scope="module", params=["gunicorn", "uvicorn"])
def served(request, shop, tmp_path_factory):
    """The snapshots of a server's processes after some rounds of the mix and an orderly end."""
    pytest.importorskip(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    folder.chmod(0o700)
    environment = {**shop, "FASTALLOC_MODE": "light", "FASTALLOC_DIR": str(folder)}
    log = tmp_path_factory.mktemp("log") / "server.log"
    with serving(request.param, log, environment, lambda: None) as server:
        cookie = login(server.port, shop["SHOP_ADMIN_PASSWORD"])
        tally = drive(server.port, cookie, ROUNDS * len(MIX), lambda tally: False)
        pids = server.processes()
    assert tally.statuses == {200: ROUNDS * len(MIX)}, log.read_text()
    snapshots = [fastalloc.read(path) for path in folder.glob("*.recording")]
    assert {snapshot.pid for snapshot in snapshots} == set(pids)
    return request.param, snapshots


def of_requests(snapshots):
    return [snapshot for snapshot in snapshots if len(snapshot.records)]


def test_each_request_is_one_span_of_its_route(served) -> None:
    _, snapshots = served
    spans = Counter(
        str(record["name"])
        for snapshot in snapshots
        for record in snapshot.records
        if record["kind"] == "span"
    )
    assert spans == EXPECTED


def test_phases_are_those_of_the_middleware(served) -> None:
    _, snapshots = served
    entered: Counter[str] = Counter()
    for snapshot in snapshots:
        for phase in snapshot.phases:
            if phase["span_name"] and phase["name"] in ("app", "stream", "background"):
                entered[str(phase["name"])] += int(phase["entered"])
    count = sum(EXPECTED.values())
    assert entered == {"app": count, "stream": count}


def test_counters_add_up_exactly(served) -> None:
    for snapshot in served[1]:
        assert sum(int(count) for count in snapshot.phases["count"]) == snapshot.total_count
        assert sum(int(count) for count in snapshot.phases["bytes"]) == snapshot.total_bytes


def test_every_process_ended_in_order(served) -> None:
    kind, snapshots = served
    for snapshot in snapshots:
        # uvicorn ends itself with the SIGTERM that it was sent, past Python's own exit.
        assert snapshot.state == ("exited" if kind == "gunicorn" else "killed")
        assert snapshot.consistent
        assert not snapshot.repaired


def test_workers_know_what_their_parent_loaded(served) -> None:
    kind, snapshots = served
    if kind != "gunicorn":
        pytest.skip("one process")
    for snapshot in of_requests(snapshots):
        assert "fork" in snapshot.events["kind"]
        modules = snapshot.top(group="line", limit=None)
        assert any("importlib" in row.key and row.live_bytes for row in modules)


def test_the_processes_phase_is_serving(served) -> None:
    for snapshot in of_requests(served[1]):
        assert str(snapshot.phases["name"][snapshot.header["process_phase"]]) == "serving"


@pytest.mark.parametrize("kind", ["gunicorn", "uvicorn"])
def test_answers_are_the_same_with_and_without(kind, shop, recordings, tmp_path) -> None:
    pytest.importorskip(kind)
    answers = []
    for mode in ("disabled", "light"):
        environment = {**shop, "FASTALLOC_MODE": mode, "FASTALLOC_DIR": str(recordings)}
        with serving(kind, tmp_path / f"{mode}.log", environment, lambda: None) as server:
            got = [
                request(server.port, "GET", path, {})
                for path in ("/", "/orders/", "/orders/7/", "/api/products.json", "/no/such/")
            ]
            got.append(request(server.port, "GET", "/export/orders.csv", {}))
        answers.append([(status, strip(headers), body) for status, headers, body in got])
    assert answers[0] == answers[1]
    # The master and its workers; one that never gets a request may never get a file.
    assert len(list(recordings.glob("*.recording"))) in ((2, 3) if kind == "gunicorn" else (1,))


def strip(headers) -> list[tuple[str, str]]:
    return sorted((key, value) for key, value in headers.items() if key.lower() != "date")
