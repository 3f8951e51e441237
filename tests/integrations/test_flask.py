"""Flask under a real gunicorn."""

from __future__ import annotations

from http.client import HTTPException

import pytest

from tests.integrations.servers import APPS, GUNICORN, phases, serving, spans

pytest.importorskip("flask")
pytest.importorskip("gunicorn")
pytestmark = pytest.mark.slow

PATHS = (
    *("/plain/5", "/plain/6", "/template/ann", "/stream", "/fails", "/none/at/all", "/checked"),
    "/shop/north/orders/7a",
)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """(answers without and with fastalloc, folder of recordings, log)."""
    answers = []
    for flag in ("", "1"):
        folder = tmp_path_factory.mktemp("flask")
        mode = {"FASTALLOC_MODE": "light"} if flag else {"FASTALLOC_MODE": "disabled"}
        command = (*GUNICORN, "--threads", "2", f"{APPS}.flask_app:app")
        with serving(folder, *command, ready="Booting", WITH_FASTALLOC=flag, **mode) as server:
            got = [server.get(path) for path in PATHS]
            got.append(server.get("/plain/1", method="HEAD"))
            got.append(server.get("/none", method="POST"))
        answers.append(got)
    return answers, server.folder, server.log


def test_answers_are_the_same_with_and_without(served) -> None:
    assert served[0][0] == served[0][1]
    statuses = [200, 200, 200, 200, 500, 404, 200, 200, 200, 404]
    assert [answer.status for answer in served[0][1]] == statuses


def test_requests_are_named_by_their_rule(served) -> None:
    assert spans(served[1]) == {
        "GET /plain/<int:number>": 2,
        "GET /template/<name>": 1,
        "GET /stream": 1,
        "GET /fails": 1,
        "GET (no route)": 1,
        "GET /checked": 1,
        "GET /shop/<region>/orders/<order>": 1,
        "HEAD /plain/<int:number>": 1,
        "POST (no route)": 1,
    }


def test_phases_follow_flasks_signals(served) -> None:
    found = phases(served[1])
    assert found["GET /plain/<int:number>"] == ["app", "view", "response", "stream", "tear-down"]
    assert found["GET /template/<name>"][:4] == ["app", "view", "render", "response"]
    assert found["GET /fails"][:2] == ["app", "view"]


def test_an_error_shows_the_programs_frames_alone(served) -> None:
    log = served[2].read_text()
    assert "LookupError: theirs" in log
    assert "fastalloc" not in log.replace("WITH_FASTALLOC", "")


def test_errors_beyond_the_framework_show_the_programs_frames_alone(tmp_path) -> None:
    command = (*GUNICORN, f"{APPS}.flask_app:raw")
    with serving(tmp_path, *command, ready="Booting", WITH_FASTALLOC="1") as server:
        assert server.get("/call").status == 500
        assert server.get("/fine").body == b"fine"
        assert server.get("/twice").status == 500
        with pytest.raises((OSError, HTTPException)):
            server.get("/stream")
    log = server.log.read_text()
    assert log.count("LookupError: theirs") == 2
    assert "AssertionError" in log  # gunicorn's own, of headers set twice
    assert "src/fastalloc" not in log
    assert spans(server.folder) == {"GET (no route)": 4}
