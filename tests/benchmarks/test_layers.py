"""The tables of instructions and layers: what was not counted is a dash, never a number."""

from __future__ import annotations

from typing import Any

from benchmarks.counting import CASES, NATIVE_PAIR, PAIR, VARIANTS

from benchmarks import instructions, layers, report, trackers

INTERPRETER = {"label": "3.11.2 PGO", "optimized": True, "tag": "x"}


def counted(**content: Any) -> dict[str, Any]:
    """A result of `instructions`."""
    return {"interpreter": INTERPRETER, "pairs": {}, "workloads": {}, "sample": {}, **content}


def test_a_layer_is_what_one_variant_has_and_another_has_not() -> None:
    each = {"none": 70.0, "forward": 75.0, "counters": 83.0, "light": 83.5}
    rows = {r[0]: r[1] for r in layers.table([], [counted(pairs={PAIR: each})], []).rows}
    assert rows["counters and countdown"] == "+8.0"
    assert rows["light mode, all of these"] == "+13.5"
    assert "a span around it" not in rows


def test_every_layer_is_counted_or_timed_somewhere() -> None:
    known = {*VARIANTS, *layers.PROFILER_OF, *layers.PROFILER_OF.values(), *report.PROFILERS}
    assert {name for _, *both in layers.LAYERS for name in both} <= known
    assert {*instructions.VARIANTS, *instructions.LAYERS, *instructions.NATIVE} == set(VARIANTS)
    assert PAIR in CASES


def test_the_instructions_of_a_sample_are_shown_by_what_the_files_are_for() -> None:
    by_file = {"stack.c": 5.0, "cpython_frames.h": 6.0, "live.c": 7.0, "": 1.0, "ceval.c": 2.0}
    rows = {r[0]: r[1] for r in layers.sample([counted(sample={"each": by_file})]).rows}
    assert (rows["walking the stack"], rows["live table"], rows[layers.REST]) == ("11", "7", "3")
    assert rows["in all"] == "21"


def test_a_native_sample_is_shown_without_and_with_its_c_functions() -> None:
    each = {"none": 200.0, "each": 3200.0, "each, C frames": 30200.0}
    table = layers.native_sample([counted(pairs={NATIVE_PAIR: each}), counted()])
    assert [list(row) for row in table.rows] == [
        ["without native frames", "3,000", "-"],
        ["native_frames=16", "30,000", "-"],
    ]
    assert not layers.native_sample([counted()]).rows


def test_what_no_probe_answered_yet_is_a_dash() -> None:
    document = counted(looks={"resident": 0.123}, fork={"light": {"parent_ms": 250.4}})
    rows = {row[0]: row[1] for row in report.overheads([document]).rows}
    assert rows["look at resident memory, small process, ms"] == "0.12"
    assert rows["fork, light, ms in the parent"] == "250"
    assert (
        rows["look at all loaded objects, native, ms"]
        == rows["fork, none, ms in the parent"]
        == "-"
    )


def test_what_was_not_counted_is_a_dash_and_makes_no_mean() -> None:
    document = counted(
        workloads={
            "dicts": {"none": 100.0, "light": 101.0, "ddtrace": 120.0},
            "strs": {"none": 100.0, "light": 103.0},
        }
    )
    rows = {row[0]: list(row[1:]) for row in report.whole([document]).rows}
    assert rows["strs"] == ["1.0300", "-"]
    assert rows["geometric mean"] == ["1.0200", "-"]
    pairs = report.pairs([counted(pairs={PAIR: {"none": 70.0, "light": 83.0}})])
    assert list(pairs.rows[0]) == [PAIR, "70", "-", "+13.0", "-", "-", "-"]


def test_trackers_show_what_they_add_to_the_first_variant() -> None:
    works = {"a page": {"none": 0.01, "all": 0.011}}
    table = trackers.table([{"interpreter": INTERPRETER, "works": works}])
    assert list(table.rows[0]) == ["a page", "10.00", "1.100"]
