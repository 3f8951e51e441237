"""A dump stays within its bytes and its time, whatever there is to tell."""

from __future__ import annotations

from pathlib import Path

from tests.core.programs import Programs
from tests.dumps.states import PRELUDE, load


def test_what_does_not_fit_into_the_bytes_is_cut_and_says_so(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
def deep(n): return deep(n - 1) if n else (ready.release(), end.wait())
ready, end = threading.Semaphore(0), threading.Event()
fastalloc.start(dump_max_bytes=65536, dump_max_ms=10_000)  # of the bytes alone, on a busy machine too
threads = [threading.Thread(target=deep, args=(50,)) for _ in range(60)]
for thread in threads: thread.start()
for thread in threads: ready.acquire()
fastalloc.dumps.add_section("long", lambda: {"rows": iter(range(10**9)), "n": 1})
fastalloc.dumps.add_section("large", lambda: {"rows": ["x" * 1000] * 1000})
path = fastalloc.write_dump()
end.set()
for thread in threads: thread.join()
answer(path=path, bytes=os.stat(path + "/state.json").st_size)
"""
    )
    state = load(done.answer["path"])
    assert 30_000 < done.answer["bytes"] <= 65536
    assert 0 < len(state["threads"]["items"]) < 61
    cut = f"cut after {len(state['threads']['items'])}"
    assert cut in state["threads"]["skipped"] and "dump_max_bytes" in state["threads"]["skipped"]
    assert state["trackers"]["long"]["rows"][:3] == [0, 1, 2]
    assert "cut after" in state["trackers"]["long"]["skipped"]
    assert "dump_max_bytes" in state["trackers"]["large"]["skipped"]
    assert state["modules"]["items"], "what comes later has its share"


def test_what_does_not_fit_into_the_time_is_cut_and_says_so(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
from fastalloc import _core
kept = [[] for _ in range(100_000)]
fastalloc.start(dump_max_ms=10)
rows, seen, complete, _ = _core.count_objects((), 0.0, 10)
def slow():
    while True:
        time.sleep(0.001)
        yield {}
fastalloc.dumps.add_section("slow", lambda: {"rows": slow()})
states = []
for _ in range(5):
    path = fastalloc.write_dump()
    states.append(state_of(path))
answer(states=states, path=path, seen=seen, complete=complete)
"""
    )
    load(done.answer["path"])
    assert not done.answer["complete"] and 0 < done.answer["seen"] < 1000
    for state in done.answer["states"]:
        slow = state["trackers"]["slow"]
        assert "dump_max_ms" in slow["skipped"] and len(slow.get("rows", [])) < 10
    # Where the machine has no time for us, a section may be cut; not in all five.
    assert any(state["process"].get("pid") for state in done.answer["states"])
    assert min(state["dump"]["milliseconds"] for state in done.answer["states"]) < 30


def test_sections_that_fail_leave_the_others_alone_and_are_switched_off(
    programs: Programs,
) -> None:
    done = programs.run(
        PRELUDE
        + """
calls = []
def fails(): calls.append(1); raise KeyError("hunter2")
def half():
    yield {"n": 1}
    raise ValueError("hunter2")
def circle():
    one = {}; one["self"] = one
    return one
class Hostile(dict):
    def items(self): raise ArithmeticError("hunter2")
sections = {"fails": fails, "half": lambda: {"rows": half()}, "circle": circle,
            "set": lambda: {"x": {1}}, "key": lambda: {1: 2}, "object": lambda: object(),
            "hostile": Hostile, "none": lambda: None, "nan": lambda: float("nan"),
            "good": lambda: {"text": "\\ud800 \\x00 \\"\u00e9"}}
for name, function in sections.items(): fastalloc.dumps.add_section(name, function)
fastalloc.start()
paths = [fastalloc.write_dump() for _ in range(12)]
fastalloc.dumps.remove_section("set")
answer(paths=paths, calls=len(calls), last=state_of(fastalloc.write_dump()),
       breakers=[b for b in fastalloc.status().breakers if b["layer"] == "dump section fails"])
"""
    )
    first, last = load(done.answer["paths"][0])["trackers"], done.answer["last"]["trackers"]
    assert first["fails"] == {"skipped": "failed: KeyError"}
    assert first["half"] == {"rows": [{"n": 1}], "skipped": "cut after 1: failed: ValueError"}
    assert first["circle"] == {"skipped": "nested too deeply"}
    for name in ("set", "key", "object"):
        assert first[name] == {"skipped": "failed: TypeError"}
    assert first["hostile"] == {"skipped": "failed: ArithmeticError"}
    assert first["none"] is None and first["nan"] is None
    assert first["good"] == {"text": '\ud800 \x00 "é'}
    assert "set" not in last and "switched off" in last["fails"]["skipped"]
    assert done.answer["calls"] == 10
    assert done.answer["breakers"][0]["state"] == "open"
    text = "".join(Path(path, "state.json").read_text() for path in done.answer["paths"])
    assert "hunter2" not in text


def test_many_open_spans_are_told_by_what_they_hold(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
fastalloc.start(interval_bytes=10_000)
spans, kept = [], []
for n in range(1000):
    span = fastalloc.span(f"span {n}")
    spans.append(span)
    span.__enter__()
    if n % 100 == 50: kept.append(bytes(200_000))
state = state_of(fastalloc.write_dump())
answer(state=state)
"""
    )
    spans = done.answer["state"]["spans"]
    assert spans["more"] + len(spans["items"]) == 1000 and spans["more"] > 0
    holders = {span["name"] for span in spans["items"] if span["live_bytes"] > 100_000}
    assert {f"span {n}" for n in range(50, 1000, 100)} <= holders


def test_writing_a_dump_inside_a_dump_is_refused(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
said = []
def again():
    try: fastalloc.write_dump()
    except RuntimeError as error: said.append(str(error)); raise
fastalloc.dumps.add_section("again", again)
fastalloc.start()
path = fastalloc.write_dump()
answer(said=said, path=path, second=fastalloc.write_dump())
"""
    )
    assert "already" in done.answer["said"][0]
    assert load(done.answer["path"])["trackers"]["again"] == {"skipped": "failed: RuntimeError"}


def test_a_child_forked_during_a_dump_can_write_its_own(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
children = []
def fork():
    pid = os.fork()
    if not pid:
        try:
            fastalloc.dumps.remove_section("fork")
            status = 0 if os.path.isdir(thread_writes()) else 2
        except BaseException:
            status = 1
        os._exit(status)
    children.append(pid)
def thread_writes():
    paths = []
    thread = threading.Thread(target=lambda: paths.append(fastalloc.write_dump("child")))
    thread.start(); thread.join()
    return paths[0]
fastalloc.dumps.add_section("fork", fork)
fastalloc.start()
path = fastalloc.write_dump()
answer(path=path, status=os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]),
       dumps=sorted(n for n in os.listdir(os.environ["FASTALLOC_DIR"]) if n.startswith("dump")),
       pids=[os.getpid(), children[0]])
"""
    )
    assert done.answer["status"] == 0
    assert {int(name.split("-")[1]) for name in done.answer["dumps"]} == set(done.answer["pids"])
