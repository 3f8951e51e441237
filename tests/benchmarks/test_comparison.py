"""What the page makes of launches: nothing that they do not say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.profilers import PROFILERS
from benchmarks.tables import Table
from benchmarks.workloads import WORKLOADS

from benchmarks import comparison, floors, quotes, report, results, targets

Part = dict[str, Any]
STEADY = [1.0, 1.01, 0.99, 1.0]


@pytest.fixture(autouse=True)
def _own_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    (tmp_path / "results").mkdir()


def part(
    workload: str,
    ratios: dict[str, float],
    launch: int = 0,
    revision: str = "new",
    date: str = "2026-01-02 10:00",
    slow: bool = False,
) -> Part:
    """A launch in which each profiler took so much of none's time, with some noise."""
    seconds = {"none": STEADY} | {
        name: [ratio * noise for noise in STEADY[place:] + STEADY[:place]]
        for place, (name, ratio) in enumerate(ratios.items(), 1)
    }
    return {
        "kind": "compare",
        "date": date,
        "machine": {
            "processor": "some",
            "cores": 2,
            "system": "Linux",
            "libc": "glibc",
            "load_average": 0.1,
        },
        "interpreter": {
            "tag": "3.11.2-pgo",
            "label": "3.11.2 PGO",
            "optimized": True,
            "version": "3.11.2",
            "compiler": "GCC",
            "packages": {},
            "revision": revision,
        },
        "workload": workload,
        "launch": launch,
        "slow": slow,
        "failed": {},
        "seconds": seconds,
        "memory": {
            which: dict.fromkeys(seconds, 1.0 * comparison.MIB)
            for which in ("start", "peak", "written")
        },
    }


def write(*parts: Part) -> None:
    """As `compare` leaves them."""
    for number, each in enumerate(parts):
        name = f"compare-{each['interpreter']['tag']}-{number}.json"
        (results.RESULTS / name).write_text(json.dumps(each))


def cells(table: Table, row: str) -> list[str]:
    """The cells of a row."""
    return next(list(each[1:]) for each in table.rows if each[0] == row)


def test_launches_of_an_older_fastalloc_take_no_part() -> None:
    write(
        part("dicts", {"light": 1.5}, revision="old", date="2026-01-01 10:00"),
        part("dicts", {"light": 1.02}, launch=1),
    )
    (document,) = comparison.load()
    assert comparison.ratios_of(document)["light"]["dicts"].mean == pytest.approx(1.02, rel=0.01)
    assert results.revision(document) == "new"


def test_slow_profilers_are_compared_with_the_none_beside_them() -> None:
    slow = part("dicts", {"memray": 2.0}, slow=True)
    slow["seconds"] = {
        name: [10 * each for each in rounds] for name, rounds in slow["seconds"].items()
    }
    write(part("dicts", {"light": 1.02}), slow, part("dicts", {"light": 1.04}, launch=1))
    (document,) = comparison.load()
    found = comparison.ratios_of(document)
    assert found["memray"]["dicts"].mean == pytest.approx(2.0, rel=0.01)
    assert found["light"]["dicts"].by_launch == pytest.approx((1.02, 1.04), rel=0.01)
    assert found["memray"]["dicts"].rounds == len(STEADY)


def test_what_lacks_workloads_meets_no_target_and_is_not_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quotes, "README", tmp_path / "README.md")
    monkeypatch.setattr(quotes, "FIGURES", tmp_path / "figures.json")
    write(part("dicts", {"light": 1.02}))
    assert [row[3] for row in targets.table(comparison.load(), []).rows] == ["incomplete"]
    assert not quotes.write(comparison.load())
    assert not (tmp_path / "figures.json").exists()


def test_one_launch_of_each_workload_is_not_quoted_and_two_are() -> None:
    once = [part(name, {"light": 1.02}) for name in WORKLOADS]
    write(*once, *(part(name, {"memray": 2.0}, slow=True) for name in WORKLOADS))
    assert not quotes.quotable(comparison.load())
    write(*once, *(part(name, {"light": 1.02}, launch=1) for name in WORKLOADS))
    assert quotes.quotable(comparison.load())
    assert "met" in [row[3] for row in targets.table(comparison.load(), []).rows]


@pytest.mark.parametrize(
    ("rival", "mark"),
    [(1.5, ""), (1.01, " **!**"), (1.035, " (!)")],
    ids=["dearer", "cheaper", "even"],
)
def test_a_cheaper_rival_is_marked_by_how_sure_that_is(rival: float, mark: str) -> None:
    # the rounds differ by 1 %, so two standard errors of four ratios are some 1 %: 3 % are sure, and 1 % is not
    write(part("dicts", {"light": 1.05, "ddtrace": rival}))
    told = cells(comparison.firsts(comparison.load()), "dicts")[1]
    assert told == f"{rival:.3f} {PROFILERS['ddtrace'].title}{mark}"


def test_who_does_not_see_the_live_heap_is_no_rival() -> None:
    write(part("dicts", {"light": 1.05, "scalene": 0.6, "ddtrace": 1.2}))
    told = cells(comparison.firsts(comparison.load()), "dicts")[1]
    assert told.endswith(PROFILERS["ddtrace"].title)


def test_light_above_hooks_that_forward_everything_is_marked() -> None:
    write(
        part("dicts", {"light": 1.05, "forward_all": 1.02}),
        part("strs", {"light": 1.01, "forward_all": 1.02}),
    )
    counted = {**part("dicts", {}), "workloads": {"dicts": {"light": 99.0, "forward_all": 100.0}}}
    table = floors.table(comparison.load(), [counted])
    assert cells(table, "dicts")[0].endswith(" **!**")
    assert "!" not in cells(table, "strs")[0]
    assert cells(table, "dicts")[1] == "0.9900"


def test_a_mean_of_few_workloads_says_so_in_the_table_and_not_in_the_means() -> None:
    write(part("dicts", {"light": 1.05, "fil": 3.0}), part("strs", {"light": 1.01}))
    (document,) = comparison.load()
    assert set(comparison.means_of(document)) == {"light"}
    assert cells(comparison.overview([document]), PROFILERS["fil"].title)[0].endswith("(1 of 2)")


def test_the_page_marks_what_is_of_an_older_fastalloc() -> None:
    old = part("dicts", {}, revision="abc", date="2026-01-01 10:00")
    assert "abc (3.11.2 PGO, 2026-01-01 10:00)" in report.aged([old, part("dicts", {})], "new")
    assert report.aged([part("dicts", {})], "new") == ""


def test_a_failure_shows_its_last_line_and_keeps_the_rest() -> None:
    failed = part("dicts", {"light": 1.0})
    failed["failed"] = {"scalene": "exit status 1: Traceback ...\n  in f\nValueError: a | b"}
    write(failed)
    (row,) = comparison.failures(comparison.load()).rows
    assert row[2] == "exit status 1: ValueError: a / b"
