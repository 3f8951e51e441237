"""Celery: a real worker, its pools prefork and threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter

import pytest

from tests.integrations.servers import APPS, ROOT, snapshots, spans

pytest.importorskip("celery")
pytestmark = pytest.mark.slow

SEND = f"""
from {APPS}.celery_app import import_orders, fails, tries_again, calls_another
sent = [import_orders.delay(n) for n in (1, 2, 3)] + [tries_again.delay(), calls_another.delay()]
failing = fails.delay()
print([result.get(timeout=60) for result in sent])
try: failing.get(timeout=60)
except LookupError: print("failed")
"""


@pytest.fixture(scope="module", params=["prefork", "threads"])
def worked(request, tmp_path_factory):
    """(pool, folder of recordings, log of the worker) after some tasks and a warm shutdown."""
    folder = tmp_path_factory.mktemp(request.param)
    recordings = folder / "recordings"
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("FASTALLOC_", "PYTEST_"))}
    environment = {**kept, "CELERY_FOLDER": str(folder), "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
    recorded = {
        "FASTALLOC_MODE": "light",
        "FASTALLOC_DIR": str(recordings),
        "FASTALLOC_REQUEST_PERCENT": "100",
    }
    command = ["-m", "celery", "-A", f"{APPS}.celery_app", "worker", "--concurrency", "2"]
    command += ["--pool", request.param, "--without-gossip", "--without-mingle"]
    log = folder / "worker.log"
    with log.open("wb") as output:
        worker = subprocess.Popen(
            [sys.executable, *command],
            cwd=folder,
            env={**environment, **recorded},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        sender = [sys.executable, "-c", SEND]
        done = subprocess.run(
            sender, env=environment, capture_output=True, text=True, timeout=90, check=False
        )
        assert done.stdout.split("\n")[:2] == ["[1, 2, 3, 'done', 8]", "failed"], (
            done.stderr + log.read_text()
        )
    finally:
        worker.terminate()
        worker.wait(30)
    return request.param, recordings, log.read_text()


def test_each_run_of_a_task_is_a_span_named_after_it(worked) -> None:
    assert spans(worked[1]) == {
        "shop.import_orders": 4,
        "shop.fails": 1,
        "shop.tries_again": 2,
        "shop.calls_another": 1,
    }


def test_bytes_are_counted_for_the_task_that_allocated_them(worked) -> None:
    counted = Counter()
    for snapshot in snapshots(worked[1]):
        for record in snapshot.records:
            if record["kind"] == "span":
                counted[f"{record['name']} {record['bytes'] // 1_000_000}"] += 1
    for count in (1, 2, 3, 8):
        assert counted[f"shop.import_orders {count}"] == 1, counted
    assert counted["shop.calls_another 12"] == 1  # with the one inside


def test_what_tasks_leave_tells_state_and_error_and_no_values(worked) -> None:
    lines = [
        json.loads(line)
        for path in worked[1].glob("*.jsonl")
        for line in path.read_text().splitlines()
    ]
    tasks = Counter(
        (line["name"], line["type"], line["status"], line.get("error"))
        for line in lines
        if line["kind"] == "request"
    )
    assert tasks == {
        ("shop.import_orders", "task", "SUCCESS", None): 4,
        ("shop.fails", "task", "FAILURE", "LookupError"): 1,
        ("shop.tries_again", "task", "RETRY", "OSError"): 1,
        ("shop.tries_again", "task", "SUCCESS", None): 1,
        ("shop.calls_another", "task", "SUCCESS", None): 1,
    }
    for path in worked[1].iterdir():
        assert b"s3cret" not in path.read_bytes()


def test_an_error_shows_the_programs_frames_alone(worked) -> None:
    assert "LookupError" in worked[2]
    assert "src/fastalloc" not in worked[2]


def test_children_of_the_pool_go_on_in_recordings_of_their_own(worked) -> None:
    if worked[0] != "prefork":
        pytest.skip("one process")
    working = [s for s in snapshots(worked[1]) if len(s.records)]
    assert working
    for snapshot in working:
        assert "fork" in snapshot.events["kind"]
        assert str(snapshot.phases["name"][snapshot.header["process_phase"]]) == "serving"
        assert snapshot.exit_kind == "clean"
