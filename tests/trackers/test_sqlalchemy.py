"""Queries and instances of a real SQLAlchemy, Core and ORM: counts, bytes, lines, nothing else changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import fastalloc

pytest.importorskip("sqlalchemy")

PROGRAM = "tests/trackers/sqlalchemy_calls.py"


@pytest.fixture(scope="module")
def cases(answer_of) -> dict:
    return answer_of("sqlalchemy_calls")


def models(case: dict) -> dict[str, dict]:
    return {label.partition(".")[2]: m for label, m in case["models"]["models"].items()}


READ_LATER = (
    *("core_iterated", "core_by_scalars", "core_iterated_by_dicts", "core_by_partitions"),
    *("core_streamed", "columns_iterated", "columns_streamed", "legacy_iterated"),
)


@pytest.mark.parametrize(
    "name",
    [
        *("large", "repeated", "repeated_by_key", "joined", "selected_in", "tuples", "iterated"),
        *("streamed", "core", "core_by_dicts", "counted", "under_criteria", "returned"),
        *("by_a_late_dialect", "without_parameters", "executed_by_the_program"),
        *READ_LATER,
    ],
)
def test_the_bytes_of_queries_are_those_of_the_work_alone(cases, name: str) -> None:
    case = cases[name]
    assert case["queries"]["bytes"] == pytest.approx(case["alone"], rel=0.13)


def test_a_lazy_relation_is_a_repeat_with_line_and_bytes(cases) -> None:
    (repeat,) = cases["repeated"]["queries"]["repeats"]
    assert repeat["count"] == 40 and repeat["rows"] == 1200
    assert "FROM book WHERE ? = book.author_id" in repeat["statement"]
    path, _, line = repeat["at"].rpartition(":")
    assert path.endswith(PROGRAM)
    assert "author.books" in Path(path).read_text().splitlines()[int(line) - 1]
    assert repeat["bytes"] == pytest.approx(cases["repeated"]["alone"], rel=0.15)


def test_rows_are_those_of_the_database(cases) -> None:
    for name, rows in (("large", 1200), ("joined", 1200), ("selected_in", 1240), ("tuples", 1200)):
        assert cases[name]["queries"]["rows"] == rows, name
    for name in ("iterated", "streamed", "core", "core_by_dicts"):
        assert cases[name]["queries"]["rows"] == 1200, name
    assert cases["counted"]["queries"]["rows"] == cases["counted"]["queries"]["count"] == 20


@pytest.mark.parametrize(
    "name", ["by_a_late_dialect", "without_parameters", "executed_by_the_program"]
)
def test_a_statement_counts_once_whatever_the_dialect_does(cases, name: str) -> None:
    (query,) = cases[name]["queries"]["statements"]
    assert (query["count"], query["rows"]) == (1, 1200)


def test_dialects_execute_as_they_are_written(cases) -> None:
    case = cases["odd_dialects"]
    assert case["results"] == [["Named", 1], ["Tagged", 1], ["Static", 1], ["Mixed", 1]]
    seen = {query["statement"]: query["count"] for query in case["queries"]["statements"]}
    assert seen["SELECT ?, ?"] == 4, seen


@pytest.mark.parametrize("name", [*READ_LATER, "core_by_rows"])
def test_a_large_result_is_one_however_it_is_read(cases, name: str) -> None:
    (large,) = cases[name]["queries"]["large_results"]
    assert (large["count"], large["rows"], large["largest_rows"]) == (1, 1200, 1200)
    assert large["largest_bytes"] == large["bytes"]


@pytest.mark.parametrize("name", [*READ_LATER, "core_by_rows", "iterated"])
def test_reading_row_by_row_adds_little_to_the_span(cases, name: str) -> None:
    assert cases[name]["span"] == pytest.approx(cases[name]["alone"], rel=0.13)


def test_a_stream_stays_one(cases) -> None:
    """With a tracker looking on, too, no more rows than asked for are instances at once."""
    assert cases["streamed"]["loaded"] == 100


def test_a_result_that_was_read_in_part_has_the_rows_that_were_read(cases) -> None:
    assert cases["core_in_part"]["queries"]["rows"] == 100


def test_what_a_write_returns_are_its_rows(cases) -> None:
    (told,) = (s for s in cases["returned"]["queries"]["statements"] if "INSERT" in s["statement"])
    assert (told["count"], told["rows"]) == (1, 1200)
    (book,) = cases["returned"]["models"]["models"].values()
    assert (book["created"], book["deleted"]) == (1200, 1200)


def test_instances_are_counted_with_those_of_joins(cases) -> None:
    assert models(cases["large"])["Book"]["fetched"] == 1200
    assert models(cases["large"])["Book"]["alive"] == 1200
    for name in ("joined", "selected_in"):
        counted = {label: m["fetched"] for label, m in models(cases[name]).items()}
        assert counted == {"Author": 40, "Book": 1200}, name
    assert models(cases["iterated"])["Book"]["alive"] == 0


def test_a_flush_is_counted_by_what_it_writes(cases) -> None:
    author = models(cases["written"])["Author"]
    assert (author["created"], author["updated"], author["deleted"]) == (20, 1, 20)


def test_loader_criteria_are_told_with_what_they_cost(cases) -> None:
    (scope,) = cases["under_criteria"]["global_scopes"]["scopes"].values()
    assert (scope["applied"], scope["queries"], scope["rows"]) == (1, 1, 600)
    assert scope["nested_queries"] == 0 and scope["adds"] == ["filter"]
    assert scope["bytes"] == pytest.approx(cases["under_criteria"]["alone"], rel=0.05)
    # Compiled once, by the first request, the statement costs the making of its option.
    alone = cases["under_criteria"]["criteria_alone"]
    assert 0 < scope["own_bytes"] == pytest.approx(alone, rel=0.15)


def test_no_value_is_told(cases) -> None:
    assert "hunter2" not in json.dumps(cases)
    dump = fastalloc.read(cases["dump"]).dump
    assert "title <> ?" in json.dumps(dump) and "hunter2" not in json.dumps(dump)


def test_errors_pass_without_a_frame_of_ours(cases) -> None:
    files = cases["fails"]["files"]
    assert len(files) > 10 and not [file for file in files if "fastalloc/trackers" in file]


def test_the_recording_names_the_repeated_query(cases) -> None:
    snapshot = fastalloc.read(cases["recording"])
    entered = {
        str(p["name"]): int(p["entered"])
        for p in snapshot.phases
        if str(p["span_name"]) == "GET /repeated/"
    }
    line = cases["repeated"]["queries"]["repeats"][0]["at"].rpartition(":")[2]
    assert entered[f"query __main__.Author.books at {PROGRAM}:{line}"] == 2 * 40
