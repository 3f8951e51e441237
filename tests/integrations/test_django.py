"""The Django middleware in a real Django, synchronous and asynchronous."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("django")

SCRIPT = Path(__file__).with_name("django_calls.py")


@pytest.fixture(scope="module", params=["sync", "async"])
def calls(request, tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp(request.param)
    folder.chmod(0o700)
    command = [sys.executable, "-W", "ignore::Warning:django", str(SCRIPT), str(folder)]
    done = subprocess.run(
        [*command, request.param], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_spans_are_named_by_route(calls) -> None:
    assert calls["spans"] == [
        "GET /plain/<int:number>/",
        "GET /plain/<int:number>/",
        "GET /waits/",
        "GET /template/",
        "GET /stream/",
        "GET /file/",
        "GET /fails/",
        "GET (no route)",
    ]


def test_view_render_and_stream_are_phases(calls) -> None:
    before_and_after = (" middleware", " tear-down")
    assert [phase for phase in calls["phases"] if not phase.endswith(before_and_after)] == [
        "GET /fails/ view",
        "GET /file/ view",
        "GET /plain/<int:number>/ view",
        "GET /stream/ stream",
        "GET /stream/ view",
        "GET /template/ render",
        "GET /template/ view",
        "GET /waits/ view",
    ]


def test_responses_are_what_they_were(calls) -> None:
    bodies = calls["bodies"]
    assert bodies["/plain/5/"] == "xxxxx"
    assert bodies["/waits/"] == "waited"
    assert bodies["/template/"] == "hello 1"
    assert bodies["/stream/"] == "01234"
    assert bodies["/file/"] == SCRIPT.read_text()
    assert "LookupError" not in bodies["/fails/"]
