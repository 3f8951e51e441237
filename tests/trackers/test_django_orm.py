"""Queries, models and managers of a real Django: counts, bytes, lines, and nothing else changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import fastalloc

pytest.importorskip("django")

PROGRAM = "tests/trackers/django_orm_calls.py"


@pytest.fixture(scope="module")
def cases(answer_of) -> dict:
    return answer_of("django_orm_calls")


def statements(case: dict) -> list[dict]:
    return case["queries"]["statements"]


def models(case: dict) -> dict[str, dict]:
    return case["models"]["models"]


# What the whole work allocates beside its queries (the list, the loop) is a few percent.
@pytest.mark.parametrize(
    "name",
    [
        *("large", "repeated", "repeated_backwards", "joined", "prefetched", "values", "streamed"),
        *("streamed_in_part", "raw_cursor", "through_a_manager", "through_a_querying_manager"),
        *("cursor_with", "cursor_iterated", "cursor_by_parts"),
    ],
)
def test_the_bytes_of_queries_are_those_of_the_work_alone(cases, name: str) -> None:
    case = cases[name]
    assert case["queries"]["bytes"] == pytest.approx(case["alone"], rel=0.12)


@pytest.mark.parametrize(
    "name",
    [
        *("large", "repeated", "joined", "prefetched", "cursor_with", "cursor_iterated"),
        "cursor_by_parts",
    ],
)
def test_looking_adds_little_to_the_span(cases, name: str) -> None:
    case = cases[name]
    assert case["span"] == pytest.approx(case["alone"], rel=0.09)


def test_a_repeated_query_is_named_with_line_and_bytes(cases) -> None:
    (repeat,) = cases["repeated"]["queries"]["repeats"]
    assert repeat["count"] == repeat["rows"] == 100
    assert 'FROM "library_author" WHERE "library_author"."id" = ?' in repeat["statement"]
    path, _, line = repeat["at"].rpartition(":")
    assert path.endswith(PROGRAM)
    assert "book.author.name" in Path(path).read_text().splitlines()[int(line) - 1]
    assert repeat["bytes"] > 0.9 * cases["repeated"]["queries"]["bytes"]
    (backwards,) = cases["repeated_backwards"]["queries"]["repeats"]
    assert backwards["count"] == 40 and "COUNT(*)" in backwards["statement"]


def test_a_single_large_result_is_named_with_rows_and_bytes(cases) -> None:
    (large,) = cases["large"]["queries"]["large_results"]
    assert large["largest_rows"] == 1200 and large["count"] == 1
    assert large["largest_bytes"] == cases["large"]["queries"]["bytes"]
    assert not cases["large"]["queries"]["repeats"]
    assert not cases["repeated"]["queries"]["large_results"]


def test_a_raw_cursor_has_its_rows_and_no_values(cases) -> None:
    (query,) = statements(cases["raw_cursor"])
    assert query["rows"] == 1200 and query["count"] == 1
    assert query["statement"].endswith("WHERE title <> ? AND pages > ?")
    assert "hunter2" not in json.dumps(cases["raw_cursor"])


@pytest.mark.parametrize(
    "name", ["cursor_with", "cursor_iterated", "cursor_by_parts", "cursor_by_rows"]
)
def test_a_cursors_result_is_named_as_large_however_it_is_read(cases, name: str) -> None:
    (large,) = cases[name]["queries"]["large_results"]
    assert (large["count"], large["rows"], large["largest_rows"]) == (1, 3000, 3000)
    assert large["largest_bytes"] == large["bytes"] == cases[name]["queries"]["bytes"]


def test_a_result_that_was_read_in_part_has_the_rows_that_were_read(cases) -> None:
    assert cases["cursor_by_rows_in_part"]["queries"]["rows"] == 100


def test_what_a_write_returns_are_its_rows(cases) -> None:
    (insert,) = (s for s in statements(cases["cursor_returning"]) if "INSERT" in s["statement"])
    assert (insert["count"], insert["rows"]) == (1, 1200)
    # Beginning and ending the transaction is a tenth of the work, and no query.
    returning = cases["cursor_returning"]
    assert returning["queries"]["bytes"] == pytest.approx(returning["alone"], rel=0.15)
    tag = models(cases["cursor_returning"])["library.Tag"]
    assert (tag["created"], tag["deleted"]) == (1200, 1200)


def test_a_statement_without_a_result_ends_the_one_before_on_its_cursor(cases) -> None:
    rows = {s["statement"][:6]: s["rows"] for s in statements(cases["cursor_without_result"])}
    assert rows == {"SELECT": 0, "UPDATE": 3}


def test_instances_are_counted_with_those_of_joins_and_prefetches(cases) -> None:
    assert models(cases["joined"])["library.Author"]["fetched"] == 300
    assert models(cases["prefetched"])["library.Book"]["fetched"] == 1200
    through = models(cases["through_a_manager"])
    assert {label: model["fetched"] for label, model in through.items()} == {
        "library.Book": 600,
        "library.Tag": 600,
        "library.Author": 600,
    }
    assert not models(cases["streamed_in_part"])["library.Book"]["fetched"] > 1


def test_what_is_alive_at_the_end_is_counted_or_estimated(cases) -> None:
    assert models(cases["large"])["library.Book"]["alive"] == 1200
    assert models(cases["repeated"])["library.Book"]["alive"] == 0
    assert models(cases["repeated"])["library.Book"]["alive_is_exact"]
    streamed = models(cases["streamed"])["library.Book"]
    assert not streamed["alive_is_exact"]
    # 300 of 1200 are; of some 150 references, one standard error is 3.5 % of 1200.
    assert streamed["alive"] == pytest.approx(300, abs=4 * 0.035 * 1200)


def test_writes_are_counted_whatever_made_them(cases) -> None:
    tag = models(cases["written"])["library.Tag"]
    assert (tag["created"], tag["updated"], tag["deleted"]) == (51, 1, 51)
    assert models(cases["written"])["library.Book"]["updated"] == 7


@pytest.mark.parametrize("name", ["first_save", "first_asave"])
def test_the_first_save_of_a_session_counts_once(cases, name: str) -> None:
    saved, span = cases[name]["sessions"]["save_bytes"], cases[name]["span"]
    # The request does nothing else; asyncio's loop around the second is a few percent.
    assert 0.93 * span < saved < span


def test_a_manager_is_told_with_what_it_adds_and_costs(cases) -> None:
    scopes = cases["through_a_manager"]["global_scopes"]["scopes"]
    (name,) = scopes
    assert name == "library.Book, tests.trackers.library.models.Printed"
    scope = scopes[name]
    assert scope["adds"] == ["filter", "select_related author", "prefetch_related tags"]
    assert (scope["applied"], scope["queries"], scope["nested_queries"]) == (1, 1, 1)
    assert scope["rows"] == 600
    assert scope["bytes"] == pytest.approx(cases["through_a_manager"]["alone"], rel=0.05)


def test_a_manager_that_runs_queries_itself_is_told_by_them(cases) -> None:
    (scope,) = cases["through_a_querying_manager"]["global_scopes"]["scopes"].values()
    assert (scope["applied"], scope["nested_queries"], scope["rows"]) == (3, 3, 30)
    assert scope["own_bytes"] > 50_000


def test_a_query_that_cannot_match_is_none(cases) -> None:
    assert "queries" not in cases["nothing"] or cases["nothing"]["queries"]["count"] == 0


def test_errors_pass_without_a_frame_of_ours(cases) -> None:
    files = cases["fails"]["files"]
    assert files[0].endswith(PROGRAM) and len(files) > 5
    assert not [file for file in files if "fastalloc/trackers" in file]


def test_the_recording_names_queries_as_phases(cases) -> None:
    snapshot = fastalloc.read(cases["recording"])
    phases = {
        (str(p["span_name"]), str(p["name"])): (int(p["entered"]), int(p["bytes"]))
        for p in snapshot.phases
    }
    line = cases["repeated"]["queries"]["repeats"][0]["at"].rpartition(":")[2]
    label = f"query library.Author at {PROGRAM}:{line}"
    entered, size = phases["GET /repeated/", label]
    assert entered == 2 * 100  # two requests
    assert size == pytest.approx(2 * cases["repeated"]["queries"]["repeats"][0]["bytes"], rel=0.01)


def test_the_dump_holds_all_requests_looked_at(cases) -> None:
    told = fastalloc.read(cases["dump"]).dump["trackers"]
    repeats = {repeat["most_in"] for repeat in told["queries"]["repeats"]}
    assert {"GET /repeated/", "GET /repeated_backwards/"} <= repeats
    assert told["models"]["models"]["library.Book"]["fetched"] > 5000
    assert len(told["global_scopes"]["scopes"]) == 2
    assert "hunter2" not in json.dumps(told)
