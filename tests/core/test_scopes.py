"""Spans and phases: nesting, names, attributes, and odd ways to leave them."""

from __future__ import annotations

from tests.core.programs import Programs
from tests.core.scopes import of_blocks, phases, records, run


def test_phases_nest_in_spans_and_each_counts_its_own(programs: Programs) -> None:
    snapshot = run(
        programs,
        """
blocks(1)
with span("request"):
    blocks(2)
    with phase("query"):
        blocks(4)
        with phase("parse"):
            blocks(8)
        blocks(16)
    with phase("query"):
        blocks(32)
    blocks(64)
with phase("alone"):
    blocks(128)
blocks(256)
""",
    )
    # The span's own steps, and what is nested in it.
    assert records(snapshot) == {"request": [2 + 4 + 8 + 16 + 32 + 64]}
    assert records(snapshot, "phase") == {"parse": [8], "query": [4 + 8 + 16, 32], "alone": [128]}
    assert phases(snapshot) == {
        ("", "startup"): 1 + 256,
        ("request", "request"): 2 + 64,
        ("request", "query"): 4 + 16 + 32,
        ("request", "parse"): 8,
        ("", "alone"): 128,
    }
    entered = {str(p["name"]): int(p["entered"]) for p in snapshot.phases if p["name"]}
    assert entered["query"] == 2 and entered["request"] == 1
    assert snapshot.phases["bytes"].sum() == snapshot.total_bytes


def test_a_span_in_a_span_is_its_child_and_counts_for_itself(programs: Programs) -> None:
    snapshot = run(
        programs,
        """
kept = []
with span("outer"):
    blocks(1)
    with span("inner"):
        blocks(2)
        kept.append(bytes(8_000_000))
    kept.append(bytes(8_000_000))
    blocks(4)
""",
    )
    assert records(snapshot) == {"inner": [2 + 8], "outer": [1 + 4 + 8 + 10]}
    spans = {str(s["name"]): s for s in snapshot.spans if s["id"]}
    assert spans["inner"]["parent_id"] == spans["outer"]["id"] == 1
    assert of_blocks(spans["inner"]["bytes"]) == 10  # own steps only
    assert of_blocks(spans["outer"]["bytes"]) == 13
    for name in ("inner", "outer"):
        assert 8_000_000 <= spans[name]["live_bytes"] < 8_100_000
        assert not spans[name]["open"]


def test_an_exception_leaves_a_span_as_the_end_does(programs: Programs) -> None:
    snapshot = run(
        programs,
        """
try:
    with span("failing"):
        with phase("inner"):
            blocks(1)
            raise ValueError
except ValueError:
    blocks(2)
""",
    )
    assert records(snapshot) == {"failing": [1]}
    assert phases(snapshot)["", "startup"] == 2


def test_one_span_object_serves_again_and_within_itself(programs: Programs) -> None:
    snapshot = run(
        programs,
        """
again = span("again")
for n in (1, 2):
    with again:
        blocks(n)
        first = again.id
def recurse(n):
    with again:
        blocks(1)
        if n: recurse(n - 1)
recurse(4)
""",
    )
    assert records(snapshot) == {"again": [1, 2, 5]}


def test_decorators_make_a_new_span_at_each_call(programs: Programs) -> None:
    snapshot = run(
        programs,
        """
@span("job", kind="nightly")
def job(n):
    "what it does"
    blocks(1)
    if n: return job(n - 1)
    return "done"
assert job(2) == "done" and job.__name__ == "job" and job.__doc__ == "what it does"
@phase("step")
def step(): blocks(3)
with span("outer"): step()
class Service:
    @span("method")
    def method(self, n): blocks(n); return self
    @classmethod
    @span("of class")
    def of_class(cls): blocks(7)
assert isinstance(Service().method(5), Service)
Service.of_class()
""",
    )
    got = records(snapshot)
    assert got["job"] == [1, 2, 3]
    assert got["outer"] == [3] and got["method"] == [5] and got["of class"] == [7]
    assert phases(snapshot)["outer", "step"] == 3


def test_attributes_are_cut_at_127_bytes_between_characters(programs: Programs) -> None:
    snapshot = run(
        programs,
        r"""
class Rude:
    def __str__(self): raise RuntimeError
    __repr__ = __format__ = __str__
kept = []
for attributes in (
    {"user": 3, "title": "x y"}, {"a": "é" * 100}, {"ab": "é" * 100}, {"a": "\U0001f40d" * 100},
    {"abc": "\U0001f40d" * 100}, {"a": "b" * 125}, {"a": "b" * 126}, {}, {"bad": "\udcff"},
    {"rude": Rude()},
):
    with span("with attributes", **attributes):
        kept.append(bytes(9_000_000))
""",
    )
    shown = [str(s["attributes"]) for s in snapshot.spans if s["id"]]
    assert shown[0] == "user=3 title=x y"
    assert shown[1] == "a=" + "é" * 62 and shown[2] == "ab=" + "é" * 62
    assert shown[3] == "a=" + "\U0001f40d" * 31 and shown[4] == "abc=" + "\U0001f40d" * 30
    assert shown[5] == "a=" + "b" * 125 and shown[6] == "a=" + "b" * 125
    assert shown[7] == "" and shown[8].startswith("bad=")
    assert len(shown) == 10
    assert max(len(text.encode()) for text in shown) <= 127


def test_an_attribute_may_be_called_name_or_self(programs: Programs) -> None:
    snapshot = run(
        programs,
        """
with span("request", name="x", self="y"):
    kept = bytes(9_000_000)
""",
    )
    assert [str(s["attributes"]) for s in snapshot.spans if s["id"]] == ["name=x self=y"]


def test_names_may_be_any_object_and_never_raise(programs: Programs) -> None:
    snapshot = run(
        programs,
        r"""
class Rude:
    def __str__(self): raise RuntimeError
    __repr__ = __format__ = __str__
class Text(str):
    def __str__(self): return self
class Proxy:
    def __getattr__(self, name): raise RuntimeError
NAMES = ("", "nul\0inside", "\udcff", "é" * 40_000, 7, None, b"bytes", Rude(), Text("text"), Proxy(), blocks)
for name in NAMES:
    with span(name, value=name) as current:
        blocks(1)
        current.rename(name)
    with phase(name): pass
    checkpoint(name)
""",
    )
    assert len(snapshot.records) == 2 * 11 and len(snapshot.checkpoints) == 11
    for name, times in (("text", 1), ("blocks", 1), ("(name could not be shown)", 2)):
        for kind in ("span", "phase"):
            of_kind = snapshot.records[snapshot.records["kind"] == kind]
            assert [str(found) for found in of_kind["name"]].count(name) == times
        assert [str(found) for found in snapshot.checkpoints["name"]].count(name) == times
    assert snapshot.consistent


def test_spans_in_threads_count_for_their_own_thread(programs: Programs) -> None:
    snapshot = run(
        programs,
        """
def work(index):
    for _ in range(20):
        with span(f"thread {index}"):
            blocks(index)
            with phase("inner"):
                library_without_gil.churn(RAW, 1_000_000, 1)
threads = [threading.Thread(target=work, args=(i,)) for i in range(1, 7)]
for thread in threads: thread.start()
for thread in threads: thread.join()
""",
    )
    assert records(snapshot) == {f"thread {i}": [i + 1] * 20 for i in range(1, 7)}


def test_a_span_left_in_another_context_or_thread_is_closed_all_the_same(
    programs: Programs,
) -> None:
    snapshot = run(
        programs,
        """
opened = span("crossing")
contextvars.copy_context().run(opened.__enter__)
blocks(1)  # the context it was opened in is left: this is the process's
opened.__exit__(None, None, None)
blocks(2)
def enter(): other.__enter__(); blocks(4)
other = span("by thread")
thread = threading.Thread(target=enter); thread.start(); thread.join()
blocks(8)
other.__exit__(None, None, None)
with span("sound"): blocks(16)
first = span("first"); second = span("second")
first.__enter__(); blocks(32); second.__enter__(); blocks(64)
first.__exit__(None, None, None); blocks(128); second.__exit__(None, None, None)  # crosswise
with span("still sound"): blocks(256)
""",
    )
    got = records(snapshot)
    assert set(got) == {"crossing", "by thread", "sound", "first", "second", "still sound"}
    assert got["by thread"] == [4]
    assert got["sound"] == [16] and got["still sound"] == [256]
    assert snapshot.phases["bytes"].sum() == snapshot.total_bytes


def test_a_quiet_phase_is_counted_and_leaves_no_record(programs: Programs) -> None:
    snapshot = run(
        programs,
        """
with span("request"):
    with core.Phase("query", quiet=True):
        blocks(4)
""",
    )
    assert records(snapshot, "phase") == {}
    assert records(snapshot) == {"request": [4]}
    assert phases(snapshot)[("request", "query")] == 4


def test_a_phase_apart_counts_for_nothing_around_it(programs: Programs) -> None:
    snapshot = run(
        programs,
        """
kept = []
with span("request"):
    blocks(1)
    with phase("view"):
        blocks(2)
        with core.Phase("aside", apart=True):
            blocks(4)
            kept.append(bytes(8_000_000))
        blocks(16)
""",
    )
    assert records(snapshot) == {"request": [1 + 2 + 16]}
    assert records(snapshot, "phase") == {"view": [2 + 16], "aside": [4 + 8]}
    assert phases(snapshot)[("", "aside")] == 4 + 8
    held = snapshot.live[snapshot.live["size"] >= 8_000_000]
    assert [str(snapshot.phases["name"][sample["phase"]]) for sample in held] == ["aside"]
    assert not held["span"].any()


def test_a_scope_left_before_what_was_opened_in_it_is_left_for_good(programs: Programs) -> None:
    snapshot = run(
        programs,
        """
def steps(name, n):
    with span(name):
        blocks(n); yield
with span("around"):
    a, b, c = span("a"), span("b"), phase("c")
    a.__enter__(); blocks(1)
    b.__enter__(); blocks(2)
    c.__enter__(); blocks(4)
    b.__exit__(None, None, None); blocks(8)    # in c still
    a.__exit__(None, None, None); blocks(16)   # likewise
    c.__exit__(None, None, None); blocks(32)   # in around
one, two = steps("one", 64), steps("two", 128)
next(one); next(two)
one.close(); two.close()
blocks(256)
three = steps("three", 1); next(three)
with span("inside"):
    three.close()
    blocks(512)
blocks(1024)
""",
    )
    got = phases(snapshot)
    assert got["around", "around"] == 32
    assert got["a", "a"] == 1 and got["b", "b"] == 2 and got["b", "c"] == 4 + 8 + 16
    assert got["one", "one"] == 64 and got["two", "two"] == 128
    assert got["three", "three"] == 1 and got["inside", "inside"] == 512
    assert got["", "startup"] == 256 + 1024
    assert records(snapshot, "phase") == {"c": [4 + 8 + 16]}
    # What closes inside one that is closed already is added to the next one around that.
    assert records(snapshot)["around"] == [1 + 2 + (4 + 8 + 16) + 32]
    assert snapshot.phases["bytes"].sum() == snapshot.total_bytes


def test_what_a_span_cannot_be_made_of_is_said_clearly(programs: Programs) -> None:
    done = programs.run(
        """
import fastalloc
def said(call, *args, **kwargs):
    try: call(*args, **kwargs)
    except TypeError as error: return str(error)
fastalloc.start()
for kind in (fastalloc.span, fastalloc.phase):
    name = kind.__name__
    for args in ((), ("a", "b")):
        assert said(kind, *args) == f'{name} takes one name, as in {name}("load")'
    @kind
    def forgotten(*args): raise AssertionError
    for args in ((), (1, 2), (print,)):
        assert said(forgotten, *args).endswith(f'write @fastalloc.{name}("a name") above it')
    assert "decorates" in said(kind("load"), 3)
"""
    )
    assert done.stderr == ""
