"""What state.json says, and what it never says."""

from __future__ import annotations

import copy
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

import fastalloc
from fastalloc.dumps import facts
from fastalloc.recording.layout import Loss
from fastalloc.recording.state import SCHEMA_PATH, UNDERSTOOD, checked, conforms, schema
from tests.core.programs import Programs
from tests.dumps.states import PRELUDE, load
from tests.recording.synthetic import minimal_state

ROOT = Path(__file__).parent.parent.parent

FULL = (
    PRELUDE
    + """
fastalloc.start(interval_bytes=1000, max_frames=64)
def serve():
    with fastalloc.span("GET /orders/", method="GET"), fastalloc.phase("load"):
        fastalloc.checkpoint("loaded nothing")
        global kept
        kept = [bytes(1000) for _ in range(2000)]
        fastalloc.checkpoint("loaded rows")
        fastalloc.checkpoint("rendered")
        ready.set(); end.wait()
ready, end = threading.Event(), threading.Event()
thread = threading.Thread(target=serve, name="orders-1")
thread.start(); ready.wait()
fastalloc.dumps.add_section("cache", lambda: {"entries": 3, "rows": iter([{"n": 1}, {"n": 2}])})
path = fastalloc.write_dump("by hand")
end.set(); thread.join(); fastalloc.stop()
answer(path=path, pid=os.getpid(), parent=os.getppid(), python=sys.version.split()[0])
"""
)


def test_a_dump_tells_the_process_and_what_it_was_doing(programs: Programs) -> None:
    done = programs.run(FULL)
    state = load(done.answer["path"])
    assert state["reason"] == "by hand"
    assert state["dump"]["skipped"] == {}
    process = state["process"]
    assert (process["pid"], process["parent_pid"]) == (done.answer["pid"], done.answer["parent"])
    assert process["python"] == done.answer["python"]
    assert 0 <= state["time"] - process["start_time"] < 60
    assert state["memory"]["limit_bytes"] > 0 and state["memory"]["limit_source"]
    assert 0 < state["memory"]["headroom_bytes"] < state["memory"]["limit_bytes"]
    assert state["memory"]["rss_bytes"] > 1 << 20
    assert state["status"]["mode"] == "light" and state["status"]["active"]
    assert state["options"]["max_frames"] == {"value": 64, "source": "argument"}
    assert state["options"]["dir"]["source"] == "environment"
    assert [len(state["gc"]["counts"]), len(state["gc"]["stats"])] == [3, 3]
    assert state["trackers"] == {"cache": {"entries": 3, "rows": [{"n": 1}, {"n": 2}]}}
    loaded = {each["name"]: each for each in state["modules"]["items"]}
    assert loaded["fastalloc"]["modules"] > 5 and "numpy" in loaded
    assert "json" not in loaded  # Python's own


def test_open_spans_and_the_largest_jump_between_checkpoints_are_told(programs: Programs) -> None:
    state = load(programs.run(FULL).answer["path"])
    (span,) = state["spans"]["items"]
    assert (span["name"], span["attributes"], span["thread"]) == (
        "GET /orders/",
        "method=GET",
        "orders-1",
    )
    assert span["bytes"] > 2_000_000 and span["count"] >= 2000
    # 2000 samples at most (interval 1000, blocks of 1033 bytes): an error of a few percent
    assert 1_800_000 < span["live_bytes"] < 2_400_000
    names = [each["name"] for each in state["checkpoints"]["items"]]
    assert names == ["loaded nothing", "loaded rows", "rendered"]
    jump = state["checkpoints"]["largest_jump"]
    assert (jump["from"], jump["to"], jump["span"]) == (
        "loaded nothing",
        "loaded rows",
        "GET /orders/",
    )
    assert 1_800_000 < jump["bytes"] < 2_400_000


def test_the_recording_in_a_dump_is_of_the_same_instant(programs: Programs) -> None:
    done = programs.run(FULL)
    snapshot = fastalloc.read(done.answer["path"])
    assert snapshot.consistent and snapshot.state == "running"
    assert snapshot.dump["reason"] == "by hand" and "error" not in snapshot.dump
    (row,) = [row for row in snapshot.top(group="span") if row.key == "GET /orders/"]
    assert row.live_bytes == snapshot.dump["spans"]["items"][0]["live_bytes"]
    assert list(snapshot.events["kind"]) == ["start", "dump"]
    after = done.snapshot()
    dumps = after.events[after.events["kind"] == "dump"]
    assert dumps["a"].tolist() == [1, 2] and after.header["dumps"] == 1


SECRETS = (
    PRELUDE
    + """
secret = "hunter" + str(2)
class Login:
    def __init__(self, password): self.password = password
    def __repr__(self): raise SystemError(self.password)
    __str__ = __repr__
    @property
    def __name__(self): raise SystemError("asked for a name")
sys.modules["lazy_module"] = Login(secret)
async def handle(login, header=secret):
    local = secret
    await asyncio.sleep(60)
def work(login):
    local = [login, secret, {"password": secret}]
    ready.set(); end.wait()
async def main():
    tasks = [asyncio.create_task(handle(Login(secret))) for _ in range(3)]
    await asyncio.sleep(0)
    return fastalloc.write_dump("manual")
fastalloc.start()
ready, end = threading.Event(), threading.Event()
thread = threading.Thread(target=work, args=(Login(secret),)); thread.start(); ready.wait()
path = asyncio.run(main())
end.set(); thread.join(); fastalloc.stop()
answer(path=path, text=secret in open(path + "/state.json").read(),
       recording=secret.encode() in open(path + "/recording.fastalloc", "rb").read(),
       state=state_of(path))
"""
)


def test_no_value_and_no_argument_gets_into_a_dump(programs: Programs) -> None:
    done = programs.run(SECRETS, env={"DATABASE_PASSWORD": "hunter2"})
    assert not done.answer["text"] and not done.answer["recording"]
    state = done.answer["state"]
    assert len(state["tasks"]["items"]) == 4 and state["dump"]["skipped"] == {}
    assert "__main__.Login" in [each["type"] for each in state["objects"]["items"]]


def test_the_programs_arguments_are_not_in_a_dump(programs: Programs) -> None:
    script = programs.base / "service.py"
    script.write_text("import fastalloc\nfastalloc.start()\nprint(fastalloc.write_dump())")
    environment = programs.environment(programs.base / "recordings", {})
    done = subprocess.run(
        [sys.executable, str(script), "--token", "hunter2"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    text = (Path(done.stdout.strip()) / "state.json").read_text()
    assert "hunter2" not in text and str(script) in text


# --- the schema -----------------------------------------------------------------------------


def test_the_schema_is_one_and_uses_only_words_that_the_reader_understands() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(schema())

    def words(rule: object) -> set[str]:
        if isinstance(rule, list):
            return set().union(*map(words, rule))
        if not isinstance(rule, dict):
            return set()
        found = set(rule)
        for name, part in rule.items():
            if name in ("properties", "$defs"):
                found |= set().union(*map(words, part.values()))
            elif name != "required":
                found |= words(part)
        return found

    assert words(schema()) <= UNDERSTOOD | {"$schema", "$defs", "title", "description"}
    assert SCHEMA_PATH.name in (ROOT / "pyproject.toml").read_text()


def test_the_reader_and_a_whole_validator_agree_on_damaged_states(programs: Programs) -> None:
    whole = load(programs.run(FULL).answer["path"])
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(schema())
    lots = random.Random(7)
    refused = 0
    for _ in range(120):
        state = copy.deepcopy(whole)
        damage(state, lots)
        expected = validator.is_valid(state)
        refused += not expected
        assert ("error" not in checked(state, "state.json")) == expected, state
        assert conforms(state, schema()) == expected
    assert 30 < refused < 120


def damage(state: object, lots: random.Random) -> None:
    """Replace or remove something, somewhere."""
    while True:
        assert isinstance(state, (dict, list))
        if not state:
            return
        key = lots.choice(list(state) if isinstance(state, dict) else range(len(state)))
        if isinstance(state[key], (dict, list)) and lots.random() < 0.8:
            state = state[key]
            continue
        if lots.random() < 0.3:
            del state[key]
        else:
            state[key] = lots.choice([None, True, -1, 2**70, 1e300, "x", "x" * 3000, [], {}, [1]])
        return


@pytest.mark.parametrize("version", [0, 2, "1", True, None, [1]])
def test_a_state_of_another_version_is_refused_whole(version: object) -> None:
    assert set(checked(minimal_state(version=version), "state.json")) == {"error"}


def test_what_is_wrong_is_left_out_and_named() -> None:
    state = minimal_state(threads={"items": [{"name": 1}]}, objects={"skipped": "no time"})
    good = checked(state, "state.json")
    assert "threads" not in good and good["objects"] == {"skipped": "no time"}
    assert "threads" in good["error"]


def test_a_section_of_a_newer_fastalloc_is_passed_over() -> None:
    good = checked(minimal_state(fibers={"items": []}), "state.json")
    assert "fibers" not in good and "error" not in good


# --- what is known twice ----------------------------------------------------------------------


def test_names_that_are_known_twice_agree() -> None:
    assert [loss.name.lower() for loss in Loss] == list(facts.LOSSES)
    pyproject = (ROOT / "pyproject.toml").read_text()
    assert f'version = "{facts.VERSION}"' in pyproject


def test_every_section_is_in_the_documentation() -> None:
    text = (ROOT / "docs" / "dump-format.md").read_text()
    for name in schema()["properties"]:
        assert f"`{name}`" in text
    assert json.loads(SCHEMA_PATH.read_text()) == schema()
