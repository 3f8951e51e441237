"""The request log and the log line: what is in them, what never is, and that both have bounds."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest

from fastalloc.requests import log
from tests.core.programs import Finished, Programs

PRELUDE = """
import time
import fastalloc
from fastalloc import requests
from tests.core.inside import *
def blocks(count): library.churn(RAW, 1_000_000, count)
def start(**options): fastalloc.start(**{"request_percent": 0, "seed": 7, **options})
def request(name="GET /orders/<int:id>/", hold=0, **more):
    r = requests.begin("GET (no route)", named=False)
    r.rename(name)
    r.enter("view")
    blocks(2)
    held = Blocks(hold).allocate(1_000_000)
    r.status = 204
    r.end()
    held.release()
    return r
def log_of(): return fastalloc.status().recording.replace(".recording", ".requests.jsonl")
"""


SCHEMA = json.loads(Path(log.__file__).with_name("log.schema.json").read_text())


def strict(rule: object) -> object:
    """A schema that allows no field but those it names, so that none is left undescribed."""
    if isinstance(rule, list):
        return [strict(each) for each in rule]
    if not isinstance(rule, dict):
        return rule
    is_object = rule.get("type") == "object" and "properties" in rule
    closed = {"additionalProperties": False} if is_object and "$defs" not in rule else {}
    return {key: strict(each) for key, each in rule.items()} | closed


VALIDATOR = jsonschema.Draft202012Validator(strict(SCHEMA))


def lines(done: Finished, kind: str = "request") -> list[dict]:
    """Of all processes; every line is held to the schema."""
    found = []
    for path in sorted(done.directory.glob("*.jsonl")):
        found += [json.loads(line) for line in path.read_text().splitlines()]
    for line in found:
        VALIDATOR.validate(line)
    return [line for line in found if line["kind"] == kind]


def test_a_request_leaves_a_line_with_its_phases_and_digests(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
start()
requests.observe("test", None, lambda r: r.digest("queries", {"count": 3}))
r = requests.begin("GET (no route)", named=False)
r.rename("GET /orders/<int:id>/")
r.enter("view")
blocks(2)
fastalloc.checkpoint("loaded")
blocks(5)
fastalloc.checkpoint("computed")
r.enter("render")
blocks(1)
r.status = 204
r.end()
"""
    )
    [line] = lines(done)
    assert line["name"] == "GET /orders/<int:id>/"
    assert (line["type"], line["status"], line["kept"]) == ("http", "2xx", "route")
    assert line["bytes"] // 1_000_000 == 8
    assert line["ms"] > 0 and line["count"] >= 8
    phases = {p["name"]: (p["entered"], p["bytes"] // 1_000_000) for p in line["phases"]}
    assert phases == {"view": (1, 7), "render": (1, 1)}
    assert [c["name"] for c in line["checkpoints"]] == [
        "view",
        "loaded",
        "computed",
        "render",
        "end",
    ]
    assert line["largest_jump"]["name"] == "computed"
    assert line["largest_jump"]["bytes"] // 1_000_000 == 5
    assert line["digests"]["queries"] == {"count": 3}
    [head] = lines(done, "process")
    assert head["version"] == 1 and head["mode"] == "light"
    assert (done.directory / head["recording"]).exists()
    [file] = done.directory.glob("*.jsonl")
    assert file.stat().st_mode & 0o777 == 0o600


def test_the_schema_is_one_and_refuses_what_is_wrong(programs: Programs) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    [line] = lines(programs.run(PRELUDE + "start()\nrequest()\n"))
    known = jsonschema.Draft202012Validator(SCHEMA)
    assert known.is_valid(line | {"field": "of a newer version"})
    assert known.is_valid({"kind": "of a newer version"})
    assert not VALIDATOR.is_valid(line | {"field": "undescribed"})
    for field in SCHEMA["$defs"]["request"]["required"]:
        assert not known.is_valid({key: value for key, value in line.items() if key != field})
        assert field == "kind" or not known.is_valid(line | {field: None})
    for wrong in ({"bytes": -1}, {"kept": "why not"}, {"phases": [{"name": "view"}]}, {"ms": "1"}):
        assert not known.is_valid(line | wrong)


def test_lines_are_on_disk_within_a_second_though_the_process_is_killed(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
import os, signal
start()
request()
deadline = time.monotonic() + 10
while not os.path.exists(log_of()) and time.monotonic() < deadline: time.sleep(0.05)
os.kill(os.getpid(), signal.SIGKILL)
""",
        returncode=-9,
    )
    assert [line["name"] for line in lines(done)] == ["GET /orders/<int:id>/"]


def test_all_requests_are_added_up_by_route(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
start()
for n in range(50): request()
failed = requests.begin("GET /fails")
failed.end(LookupError("a secret"))
"""
    )
    [totals] = lines(done, "routes")
    orders = totals["routes"]["GET /orders/<int:id>/"]
    assert orders["count"] == 50 and orders["errors"] == 0
    assert orders["bytes"] // 1_000_000 == 100
    assert orders["bytes_log2"] == {"21": 50}  # between 1 and 2 MiB
    average, square = orders["bytes"] / 50 / 2**20, orders["mib_squared"] / 50
    assert square == pytest.approx(average**2, rel=0.01)  # nearly no variance
    assert totals["routes"]["GET /fails"]["errors"] == 1
    assert totals["since"] < totals["until"]


@pytest.mark.slow
def test_the_largest_of_a_minute_are_kept_and_the_rest_is_not(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
start(interval_bytes=65536)
request()
for hold in [1] * 30 + [40] + [1] * 30 + [50, 20, 30, 10, 9, 60]: request(hold=hold)
"""
    )
    kept = [(line["kept"], round(line["peak_bytes"] / 1e6)) for line in lines(done)]
    assert kept[0][0] == "route"
    sizes = [size for reason, size in kept[1:] if reason == "largest"]
    expected = [40, 50, 20, 30, 10, 60]  # 9: five larger ones were there already
    assert len(sizes) == len(expected)
    for size, wanted in zip(sizes, expected, strict=True):
        assert size == pytest.approx(wanted, abs=3)  # every block is a sample: e ** -15 are not


@pytest.mark.slow
def test_the_log_is_bounded_and_keeps_the_newest(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
start(request_percent=100, request_log_bytes=40_000)
from fastalloc.requests import endings
for n in range(400):
    request(name=f"GET /{n}")
    if n % 50 == 0: endings.log.write()
"""
    )
    sizes = [path.stat().st_size for path in done.directory.glob("*.jsonl")]
    assert len(sizes) == 2
    assert sum(sizes) <= 60_000  # each half may end with one batch too many
    names = [line["name"] for line in lines(done)]
    assert names[-1] == "GET /399"
    assert "GET /0" not in names


@pytest.mark.slow
def test_too_many_at_once_are_dropped_and_counted(programs: Programs) -> None:
    answer = programs.run(
        PRELUDE
        + """
start(request_percent=100)
from fastalloc import background
from fastalloc.requests import endings
background.every = lambda *a, **k: None                 # the watcher is kept from its work
for n in range(300): request(name=f"GET /{n}")
dropped = endings.log.dropped
endings.log.write()
answer(dropped=dropped, lines=open(log_of()).read().count('"kind":"request"'))
"""
    ).answer
    assert answer == {"dropped": 300 - 256, "lines": 256}


@pytest.mark.slow
def test_a_digest_that_is_too_long_is_left_out(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
start()
r = requests.begin("GET (no route)", named=False)
r.rename("GET /a")
r.digest("long", {"rows": ["x" * 100] * 1000})
r.digest("odd", {"object": object()})
r.end()
"""
    )
    [line] = lines(done)
    assert set(line["digests"]["long"]) == {"left_out_bytes"}
    assert line["digests"]["long"]["left_out_bytes"] > 100_000


@pytest.mark.slow
def test_none_is_written_when_it_is_switched_off(programs: Programs) -> None:
    done = programs.run(PRELUDE + "start(request_log_bytes=0)\nrequest()\n")
    assert not list(done.directory.glob("*.jsonl"))


@pytest.mark.slow
def test_a_full_disk_costs_the_lines_alone(programs: Programs) -> None:
    answer = programs.run(
        PRELUDE
        + """
import os
start()
os.mkdir(log_of())                                      # in the way of the file
request()
from fastalloc.requests import endings
requests.flush()
os.rmdir(log_of())
request(name="GET /b")
requests.flush()
answer(lines=[__import__("json").loads(line).get("name") for line in open(log_of())])
"""
    ).answer
    assert "GET /b" in answer["lines"]


@pytest.mark.slow
def test_forked_workers_write_files_of_their_own(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
import os
start(request_percent=100)
request(name="GET /parent")
for worker in range(2):
    if not os.fork():
        blocks(20)
        request(name=f"GET /worker{worker}")
        import sys; sys.exit()
for worker in range(2): os.wait()
"""
    )
    found = {
        path.name.split("-")[1]: [
            json.loads(line)["name"]
            for line in path.read_text().splitlines()
            if '"kind":"request"' in line
        ]
        for path in done.directory.glob("*.jsonl")
    }
    assert sorted(found.values()) == [["GET /parent"], ["GET /worker0"], ["GET /worker1"]]


def test_the_log_line_names_the_innermost_phase_that_allocated(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
start(high_request_bytes=20_000_000)
r = requests.begin("GET /orders/")
r.enter("middleware")
blocks(3)
r.enter("view")
blocks(2)
with fastalloc.phase("render"):
    blocks(5)
    held = Blocks(30).allocate(1_000_000)
    with fastalloc.phase("form"): blocks(4)
    with fastalloc._core.Phase("query SELECT orders", quiet=True): blocks(10)   # no part of the line
with fastalloc.phase("render"): blocks(1)
r.end()
time.sleep(0.5)
"""
    )
    [told] = [json.loads(line) for line in done.stderr.splitlines() if "High memory" in line]
    assert told["phase"] == "render"
    [line] = lines(done)
    own = {phase["name"]: phase["own_bytes"] // 1_000_000 for phase in line["phases"]}
    assert own == {"middleware": 3, "view": 2, "render": 5 + 30 + 10 + 1, "form": 4}


def test_a_request_that_stood_high_is_told_of_in_one_line(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
start(high_request_bytes=20_000_000, memory_limit_bytes=1 << 40)
for hold in (1, 30, 31, 32): request(hold=hold)
request(name="GET /other", hold=40)
time.sleep(0.5)
"""
    )
    told = [line for line in done.stderr.splitlines() if "High memory usage" in line]
    first, second = map(json.loads, told)
    assert first["event"] == "High memory usage"
    assert first["route"] == "GET /orders/<int:id>/"
    assert first["phase"] == "view"
    assert first["delta_bytes"] == pytest.approx(30e6, rel=0.3)
    assert 0 < first["limit_percent"] < 100
    assert second["route"] == "GET /other"
    assert first["held_back"] + second["held_back"] == 2


@pytest.mark.slow
def test_the_programs_own_logging_takes_the_line(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
import logging
logging.basicConfig(filename="service.log", format="%(levelname)s %(name)s %(message)s")
class Bad(logging.Handler):
    def emit(self, record): raise OSError("theirs")
start(high_request_bytes=1)
logging.getLogger().addHandler(Bad())
request(hold=30)
time.sleep(0.5)
print(open("service.log").read())
answer(layers=[b["layer"] for b in fastalloc.status().breakers if b["failures"]])
"""
    )
    assert re.search(
        r'^WARNING fastalloc \{"event": "High memory usage"', done.stdout, re.MULTILINE
    )
    assert done.answer["layers"] == ["soon"]


def test_nothing_secret_is_in_the_log(programs: Programs, tmp_path: Path) -> None:
    done = programs.run(
        PRELUDE
        + """
from fastalloc.integrations.wsgi import WSGIMiddleware
start(request_percent=100, token_secret="the secret of this service", high_request_bytes=1)
def app(environ, start_response):
    start_response("200 OK", [("X-Secret", "s3cret-header-out")])
    blocks(10)
    raise LookupError("s3cret-message")
environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/reset/s3cret-path", "QUERY_STRING": "s3cret-query",
           "HTTP_X_FORCE_MEMORY_PROFILE": "s3cret-header-in", "HTTP_COOKIE": "s3cret-cookie"}
try: WSGIMiddleware(app)(environ, lambda *a: None)
except LookupError: pass
time.sleep(0.3)
"""
    )
    assert [line["error"] for line in lines(done)] == ["LookupError"]
    for path in done.directory.iterdir():
        content = path.read_bytes()
        assert b"s3cret" not in content, path.name
        assert b"the secret of this" not in content, path.name
    assert "s3cret" not in done.stderr
