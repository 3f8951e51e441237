"""The main job: the kernel kills for want of memory, and the recording says who held it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import fastalloc
from fastalloc.demo import run
from fastalloc.demo.story import GUILTY_SPAN, guilty_line

pytestmark = pytest.mark.oom

VICTIM = """
import fastalloc

fastalloc.start()
kept = []

def innocent():
    return [bytes(1000) for _ in range(1000)]

def guilty():
    kept.extend(bytes(1000) for _ in range(1000))  # the line

for number in range(10_000):
    with fastalloc.span("GET /innocent/"):
        innocent()
    with fastalloc.span("GET /guilty/"), fastalloc.phase("view"):
        guilty()
"""


def test_a_killed_process_leaves_the_guilty_span_and_line(group, recordings, tmp_path) -> None:
    script = tmp_path / "victim.py"
    script.write_text(VICTIM)
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "FASTALLOC_DIR": str(recordings)},
        preexec_fn=group.enter,
        check=False,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL
    (path,) = recordings.glob("*.recording")
    snapshot = fastalloc.read(path)
    assert snapshot.state == "killed"
    span, *_ = snapshot.top(group="span")
    line, *_ = snapshot.top(group="line")
    number = next(n for n, text in enumerate(VICTIM.splitlines(), 1) if "# the line" in text)
    assert span.key == "GET /guilty/"
    assert line.key == f"{script}:{number}"
    # The process held little else: what the samples say is what the limit allowed, less the
    # interpreter itself, within four standard errors.
    held = group.limit_bytes - (12 << 20)
    assert abs(line.live_bytes - held) < 4 * line.error_bytes + (8 << 20)
    assert snapshot.limit_bytes == group.limit_bytes
    assert snapshot.cgroup_bytes > 0.8 * group.limit_bytes


@pytest.mark.slow
@pytest.mark.parametrize("server", ["gunicorn", "uvicorn"])
def test_the_demo_tells_its_story(server, group, tmp_path) -> None:
    pytest.importorskip("memray")
    pytest.importorskip(server)
    assert run(tmp_path, server) == 0
    (outcome,) = json.loads((tmp_path / "summary.json").read_text())
    assert outcome["state"] == "killed"
    assert "cgroup" in outcome["limit"]
    assert outcome["spans"][0]["key"] == GUILTY_SPAN
    assert outcome["lines"][0]["key"] == guilty_line()
    assert outcome["failures"] == []
    page = Path(outcome["flame_graph"])
    assert page.stat().st_size > 100_000
    assert "segment_rows" in page.read_text()


@pytest.mark.slow
def test_without_a_cgroup_the_demo_tells_it_by_memoryerror(monkeypatch, tmp_path) -> None:
    pytest.importorskip("memray")
    pytest.importorskip("gunicorn")
    from fastalloc.demo import confine

    class NoCgroup(confine.MemoryCgroup):
        def __enter__(self):
            raise confine.CgroupUnavailable("none, for this test")

    monkeypatch.setattr(confine, "MemoryCgroup", NoCgroup)
    assert run(tmp_path, "gunicorn") == 0
    (outcome,) = json.loads((tmp_path / "summary.json").read_text())
    assert "RLIMIT_AS" in outcome["limit"]
    assert outcome["spans"][0]["key"] == GUILTY_SPAN


@pytest.mark.slow
def test_a_story_that_did_not_happen_is_not_told(tmp_path) -> None:
    pytest.importorskip("memray")
    pytest.importorskip("gunicorn")
    assert run(tmp_path, "gunicorn", requests=12) == 1
    (outcome,) = json.loads((tmp_path / "summary.json").read_text())
    assert "12 requests did not exhaust the memory" in outcome["failures"]
