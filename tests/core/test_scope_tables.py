"""Spans and phases where they are kept: tables, recordings, records, samples."""

from __future__ import annotations

import pytest

from tests.core.programs import Programs
from tests.core.scopes import of_blocks, phases, records, run


def test_scopes_from_an_earlier_recording_or_after_stop_do_nothing(programs: Programs) -> None:
    snapshot = run(
        programs,
        """
old = span("old")
old.__enter__()
with span("held"):
    fastalloc.stop()
    with span("unheard"), phase("unheard"): blocks(1)
    checkpoint("unheard")
    old.rename("unheard")
    fastalloc.start()
    old.rename("unheard")
    blocks(2)
    with span("new") as new:
        blocks(4)
        assert new.id == 1, new.id
old.__exit__(None, None, None)
blocks(8)
del old, new
with span("last"): blocks(16)
fastalloc.disable()
with span("disabled"): blocks(32)
fastalloc.enable()
""",
    )
    assert records(snapshot) == {"new": [4], "last": [16]}
    assert phases(snapshot)["", "startup"] in (10, 42)
    names = [str(name) for name in snapshot.phases["span_name"]]
    assert not {"old", "unheard", "held", "disabled"} & set(names)


def test_thousands_of_spans_may_be_open_at_once(programs: Programs) -> None:
    snapshot = run(
        programs,
        """
opened = []
def open_one(i):
    each = span("many")
    each.__enter__()
    blocks(1)
    opened.append(each)
for i in range(4000):
    contextvars.copy_context().run(open_one, i)
with span("after"): blocks(1)
for each in opened: each.__exit__(None, None, None)
opened.clear()
for i in range(20_000):
    with span("more"): pass
with span("last"): blocks(3)
""",
    )
    assert snapshot.losses["spans"] == 0
    many = [p for p in snapshot.phases if p["span_name"] == "many"]
    assert [int(p["entered"]) for p in many] == [4000]
    assert records(snapshot)["last"] == [3]
    assert snapshot.phases["bytes"].sum() == snapshot.total_bytes


def test_more_spans_than_the_table_holds_are_counted_as_lost_and_harmless(
    programs: Programs,
) -> None:
    snapshot = run(
        programs,
        """
kept, opened = [], []
def open_one(i):
    each = span(f"name {i}")
    each.__enter__()
    opened.append(each)
for i in range(9000):
    contextvars.copy_context().run(open_one, i)
assert any(each.id == 0 for each in opened)
for each in opened: each.__exit__(None, None, None)
opened.clear()
with span("last"): blocks(3)
""",
    )
    assert snapshot.losses["spans"] > 4000
    assert snapshot.records["span_id"][-1] > 0
    assert of_blocks(snapshot.records["bytes"][-1]) == 3
    assert snapshot.phases["bytes"].sum() == snapshot.total_bytes


def test_names_made_up_without_end_do_not_blind_the_recorder(programs: Programs) -> None:
    snapshot = run(
        programs,
        """
for i in range(60_000):
    with span(f"GET /orders/{i}/"): pass
    with phase(f"phase {i}"): pass
    checkpoint(f"checkpoint {i}")
def unheard_of(): return bytes(9_000_000)
kept = unheard_of()
with span("after all"): blocks(1)
""",
    )
    largest = snapshot.live[snapshot.live["size"].argmax()]
    assert snapshot.stack(int(largest["site"]))[0].function == "unheard_of"
    assert snapshot.records["kind"][-1] == "span"


def test_checkpoints_carry_the_spans_counters_so_far(programs: Programs) -> None:
    snapshot = run(
        programs,
        """
checkpoint("outside")
with span("request") as request:
    blocks(3)
    checkpoint("first")
    with phase("render"):
        blocks(4)
    checkpoint("second")
""",
    )
    rows = snapshot.checkpoints
    assert list(rows["name"]) == ["outside", "first", "second"]
    assert list(rows["span_name"]) == ["", "request", "request"]
    assert [of_blocks(size) for size in rows["bytes"][1:]] == [3, 7]
    assert (rows["rss_bytes"] > 1_000_000).all()
    assert list(rows["time_ns"]) == sorted(rows["time_ns"])
    assert rows["thread"][0] == "MainThread"


def test_samples_name_the_span_and_phase_they_were_made_in(programs: Programs) -> None:
    snapshot = run(
        programs,
        """
kept = []
with span("a"):
    kept.append(bytes(9_000_001))
    with phase("p"):
        kept.append(bytes(9_000_002))
with phase("q"):
    kept.append(bytes(9_000_003))
kept.append(bytes(9_000_004))
""",
    )
    found = {}
    for sample in snapshot.live:
        if sample["size"] > 9_000_000:
            where = snapshot.phases[int(sample["phase"])]
            named = snapshot.spans[int(sample["span"])]["name"] if sample["span"] else ""
            found[int(sample["size"]) - 9_000_033] = str(named), str(where["name"])
    assert found == {1: ("a", "a"), 2: ("a", "p"), 3: ("", "q"), 4: ("", "startup")}


@pytest.mark.parametrize("mode", ["standby", "light", "aggressive"])
def test_spans_count_in_every_mode_what_its_hooks_see(programs: Programs, mode: str) -> None:
    snapshot = run(
        programs,
        f"""
fastalloc.configure({{"mode": {mode!r}}})
with span("request"):
    blocks(5)
""",
    )
    assert records(snapshot) == {"request": [5]}
