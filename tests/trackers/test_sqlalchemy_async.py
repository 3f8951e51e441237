"""Queries of a real AsyncSession, ten requests at once: bytes, rows and lines of each."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("sqlalchemy")
pytest.importorskip("aiosqlite")

PROGRAM = "tests/trackers/sqlalchemy_async_calls.py"


@pytest.fixture(scope="module")
def cases(answer_of) -> dict:
    return answer_of("sqlalchemy_async_calls")


# What the driver decodes in its own thread counts for no request, and is in neither of the two. To
# connect, which is no query, is up to a tenth of the work.
@pytest.mark.parametrize(
    "name",
    [
        "large",
        "repeated",
        "streamed",
        "core_streamed",
        "core_by_partitions",
        "core_all",
        "run_sync",
    ],
)
def test_the_bytes_of_each_requests_queries_are_those_of_the_work_alone(cases, name: str) -> None:
    assert len(cases[name]) == 10
    for case in cases[name]:
        assert case["queries"]["bytes"] == pytest.approx(case["alone"], rel=0.15)


@pytest.mark.parametrize(
    "name", ["large", "streamed", "core_streamed", "core_by_partitions", "run_sync"]
)
def test_a_large_result_is_one_however_it_is_read(cases, name: str) -> None:
    for case in cases[name]:
        (large,) = case["queries"]["large_results"]
        assert (large["count"], large["rows"], large["largest_rows"]) == (1, 1200, 1200)


def test_a_result_that_was_read_in_part_has_the_rows_that_were_read(cases) -> None:
    assert {case["queries"]["rows"] for case in cases["core_in_part"]} == {100}


def test_a_query_is_told_with_the_line_of_the_coroutine_that_waits_for_it(cases) -> None:
    for case in cases["repeated"]:
        (repeat,) = case["queries"]["repeats"]
        assert repeat["count"] == 40
        path, _, line = repeat["at"].rpartition(":")
        assert path.endswith(PROGRAM)
        assert "Book.author_id == author.id" in Path(path).read_text().splitlines()[int(line) - 1]


def test_cancellations_and_errors_pass_as_they_are(cases) -> None:
    assert cases["cancelled"] is True
    files = cases["fails"]
    assert files[0].endswith(PROGRAM) and len(files) > 5
    assert not [file for file in files if "fastalloc/trackers" in file]
