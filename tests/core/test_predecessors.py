"""At the start of a service: a line of log about each process before it that died badly."""

from __future__ import annotations

import json
import signal

from tests.core.programs import Programs

DIES = """
import fastalloc, os
fastalloc.start()
with fastalloc.span("GET /orders/"):
    kept = [bytes(1000) for _ in range(20_000)]
    os.kill(os.getpid(), 9)
"""
STARTS = """
import fastalloc, logging, os, sys, time
from fastalloc import predecessors
logging.basicConfig(stream=sys.stdout, format="%(message)s")
predecessors.FIRST_AFTER_SECONDS = 0.1
fastalloc.start(dir=DIR, post_mortem_at_start=True)
if os.fork() == 0:
    fastalloc.status()
deadline = time.monotonic() + WAIT
told = os.path.join(DIR, ".post-mortem-told")
while time.monotonic() < deadline and not os.path.exists(told): time.sleep(0.05)
time.sleep(1.5)
"""


def test_each_death_is_logged_once_by_one_of_the_workers(programs: Programs) -> None:
    dead = programs.run(DIES, returncode=-signal.SIGKILL)
    source = f"DIR = {str(dead.directory)!r}\n" + STARTS
    lines = programs.run(source.replace("WAIT", "20")).stdout.splitlines()
    (line,) = [json.loads(text) for text in lines if text]
    assert line["event"] == "A process of this service died"
    assert line["dead_pid"] != line["pid"]
    assert (line["ending"], line["span"]) == ("killed", "GET /orders/")
    assert "DIR" not in line["line"]
    (dead.directory / ".post-mortem").unlink()
    assert programs.run(source.replace("WAIT", "3")).stdout == ""
