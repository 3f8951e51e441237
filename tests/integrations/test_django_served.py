"""Django under a real gunicorn and a real uvicorn, with the line in MIDDLEWARE and nothing else."""

from __future__ import annotations

import pytest

from tests.integrations.servers import APPS, GUNICORN, UVICORN, phases, serving, snapshots, spans

pytest.importorskip("django")
pytestmark = pytest.mark.slow

PATHS = (
    *("/users/alicejohnson/", "/users/bobsmith/", "/pages/alicejohnson/", "/lazy/alicejohnson/"),
    *("/years/alicejohnson/", "/stream/", "/file/", "/waits/", "/fails/", "/bad-page/"),
    *("/other/alicejohnson/", "/none/alicejohnson/"),
)
SPANS = {
    "GET /users/<str:name>/": 2,
    "GET /pages/<str:name>/": 1,
    "GET /lazy/<str:name>/": 1,
    "GET /years/<year>/": 1,
    "GET /stream/": 1,
    "GET /file/": 1,
    "GET /waits/": 1,
    "GET /fails/": 1,
    "GET /bad-page/": 1,
    "GET /other/<str:name>/": 1,
    "GET (no route)": 1,
}
SERVERS = {
    "gunicorn": (*GUNICORN, "--threads", "2", f"{APPS}.django_served"),
    "uvicorn": (*UVICORN, f"{APPS}.django_served:asgi"),
}


@pytest.fixture(scope="module", params=list(SERVERS))
def served(request, tmp_path_factory):
    """(name of the server, answers without and with fastalloc, folder of recordings, log)."""
    package = pytest.importorskip(request.param)
    answers = []
    for flag in ("", "1"):
        folder = tmp_path_factory.mktemp("django")
        ready = "Booting" if package.__name__ == "gunicorn" else "running"
        environment = {"WITH_FASTALLOC": flag, "FASTALLOC_MODE": ""}
        with serving(folder, *SERVERS[request.param], ready=ready, **environment) as server:
            answers.append([server.get(path) for path in PATHS])
    return request.param, answers, server.folder, server.log.read_text()


def mega(folder, name: str) -> dict[str, int]:
    """Megabytes of the phases of the spans of a name."""
    return {
        str(phase["name"]): int(phase["bytes"]) // 1_000_000
        for snapshot in snapshots(folder)
        for phase in snapshot.phases
        if str(phase["span_name"]) == name
    }


def test_clients_see_no_difference(served) -> None:
    without, with_fastalloc = served[1]
    assert without == with_fastalloc
    assert [answer.status for answer in without] == [200] * 8 + [500, 500, 200, 404]


def test_requests_are_named_by_their_route_and_no_word_is_recorded(served) -> None:
    assert spans(served[2]) == SPANS
    for file in served[2].iterdir():
        assert b"alicejohnson" not in file.read_bytes()


def test_what_each_phase_allocates_is_its_own(served) -> None:
    server, _, folder, _ = served
    torn_down = {"tear-down": 6} if server == "gunicorn" else {}  # in another task in ASGI
    users = mega(folder, "GET /users/<str:name>/")
    assert {name: users[name] for name in users if users[name]} == {
        "middleware": 2 * 3,
        "view": 2 * 3,
        **{name: 2 * size for name, size in torn_down.items()},
    }
    for route in ("GET /pages/<str:name>/", "GET /lazy/<str:name>/"):
        page = mega(folder, route)
        expected = {"middleware": 3, "view": 3, "render": 4, **torn_down}
        assert {name: page[name] for name in page if page[name]} == expected
    assert mega(folder, "GET /stream/")["stream"] == 15
    other = mega(folder, "GET /other/<str:name>/")
    assert other["middleware"] == 3  # what was counted before its URLconf was known came along


def test_phases_follow_the_response(served) -> None:
    found = phases(served[2])
    pages = ["middleware", "render", "view", "middleware"]
    assert [name for name in found["GET /pages/<str:name>/"] if name != "tear-down"] == [
        *dict.fromkeys(pages)
    ]
    if served[0] == "gunicorn":
        assert found["GET /users/<str:name>/"] == ["middleware", "view", "tear-down"]
        assert found["GET /stream/"] == ["middleware", "view", "stream", "tear-down"]


def test_errors_show_the_programs_frames_alone(served) -> None:
    log = served[3]
    assert log.count("LookupError: theirs") == 2
    assert "src/fastalloc" not in log and "_scopes.pxi" not in log
