"""`Snapshot.top`: the biggest holders, and how sure that is."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from fastalloc.recording.holders import GROUPS, ORDERS, Row
from fastalloc.recording.layout import Domain, Region
from fastalloc.recording.reader import read
from tests.recording.synthetic import SECOND, SyntheticRecording


@pytest.fixture
def recording() -> SyntheticRecording:
    return SyntheticRecording()


def top(recording: SyntheticRecording, path: Path, **arguments: object) -> list[Row]:
    return read(recording.write(path / "recording")).top(**arguments)  # type: ignore[arg-type]


def held(rows: list[Row]) -> dict[str, int]:
    return {row.key: row.live_bytes for row in rows}


def test_a_row_sums_samples_and_says_how_sure_it_is(
    recording: SyntheticRecording, tmp_path: Path
) -> None:
    site = recording.site([("f", "/app/f.py", 10)])
    recording.live(size=100, weight=1000, site=site, time_ns=50 * SECOND)
    recording.live(size=50, weight=500, site=site, time_ns=20 * SECOND)
    (row,) = top(recording, tmp_path)
    assert row.key == "/app/f.py:10"
    assert row.live_bytes == row.high_water_bytes == 1500
    assert row.live_count == 20
    assert row.samples == 2
    assert row.oldest_seconds == 40
    assert row.error_bytes == pytest.approx(math.sqrt(1000 * 900 + 500 * 450))
    assert row.site == site


def test_a_block_recorded_for_certain_has_no_error(
    recording: SyntheticRecording, tmp_path: Path
) -> None:
    recording.live(size=1 << 30, site=recording.site([("f", "f.py", 1)]))
    assert top(recording, tmp_path)[0].error_bytes == 0


def test_an_own_line_is_who_called_the_library(
    recording: SyntheticRecording, tmp_path: Path
) -> None:
    own = ("load", "/app/orders.py", 10)
    library = ("ones", "/venv/lib/python3.11/site-packages/numpy/numeric.py", 232)
    standard = ("copy", "/usr/lib/python3.11/copy.py", 5)
    recording.live(size=1, site=recording.site([own]))
    recording.live(size=10, site=recording.site([library, own]))
    recording.live(size=100, site=recording.site([standard, library, own, library]))
    recording.live(size=1000, site=recording.site([library, standard]))
    recording.live(size=10000)
    rows = top(recording, tmp_path, group="own_line")
    assert held(rows) == {
        "<no Python stack>": 10000,
        "/venv/lib/python3.11/site-packages/numpy/numeric.py:232": 1000,
        "/app/orders.py:10": 111,
    }


def test_the_error_is_one_standard_error_where_blocks_are_sampled_each_by_chance(
    tmp_path: Path,
) -> None:
    """Over many recordings, the estimate is right on average and off by its error.

    400 recordings of 2000 blocks each: the mean of the estimates is known to 1/20 of one
    standard deviation, and the deviation itself to about 4%; asserted at four times that.
    """
    random = np.random.default_rng(20240229)
    size, interval, blocks, runs = 1000, 100_000, 2000, 400
    chance = 1 - math.exp(-size / interval)
    weight = round(size / chance)
    estimates, errors = [], []
    for _ in range(runs):
        recording = SyntheticRecording()
        site = recording.site([("f", "f.py", 1)])
        for _ in range(random.binomial(blocks, chance)):
            recording.live(size=size, weight=weight, site=site)
        rows = top(recording, tmp_path)
        estimates.append(rows[0].live_bytes if rows else 0)
        errors.append(rows[0].error_bytes if rows else 0.0)
    deviation = float(np.std(estimates))
    assert np.mean(estimates) == pytest.approx(size * blocks, abs=4 * deviation / math.sqrt(runs))
    assert math.sqrt(np.mean(np.square(errors))) == pytest.approx(deviation, rel=0.16)


# Groups


def test_a_line_is_the_leafs(recording: SyntheticRecording, tmp_path: Path) -> None:
    main = ("main", "/app/main.py", 3)
    first = recording.site([("f", "/app/f.py", 10), main])
    second = recording.site([("f", "/app/f.py", 10)])
    other = recording.site([("f", "/app/f.py", 11), main])
    for site, size in ((first, 1), (second, 2), (other, 4)):
        recording.live(size=size, site=site)
    assert held(top(recording, tmp_path, group="line")) == {"/app/f.py:11": 4, "/app/f.py:10": 3}


def test_a_site_is_a_whole_stack_with_domains_and_instructions_together(
    recording: SyntheticRecording, tmp_path: Path
) -> None:
    stack = [("f", "/app/f.py", 10), ("main", "/app/main.py", 3)]
    recording.live(size=1, site=recording.site(stack, domain="OBJ"))
    recording.live(size=2, site=recording.site(stack, domain="RAW"))
    recording.live(size=4, site=recording.site(stack, lasti=8))
    recording.live(size=8, site=recording.site(stack[:1]))
    assert held(top(recording, tmp_path, group="site")) == {
        "f (/app/f.py:10)": 8,
        "f (/app/f.py:10) <- main (/app/main.py:3)": 7,
    }


def test_functions_of_other_line_tables_are_the_same_function(
    recording: SyntheticRecording, tmp_path: Path
) -> None:
    first = recording.site([("f", "/app/f.py", 10)])
    again = recording._append(
        Region.FUNCTIONS,
        name=recording.string("f"),
        file=recording.string("/app/f.py"),
        first_line=1,
        line_table_hash=77,
    )
    second = recording._append(Region.SITES, node=recording.node(0, again, 10), domain=Domain.OBJ)
    recording.live(size=1, site=first)
    recording.live(size=2, site=second)
    for group in ("site", "line", "function"):
        assert [row.live_bytes for row in top(recording, tmp_path, group=group)] == [3]


def test_a_function_is_told_by_its_file_too(recording: SyntheticRecording, tmp_path: Path) -> None:
    recording.live(size=1, site=recording.site([("View.get", "/app/a.py", 10)]))
    recording.live(size=2, site=recording.site([("View.get", "/app/a.py", 11)]))
    recording.live(size=4, site=recording.site([("View.get", "/app/b.py", 10)]))
    assert held(top(recording, tmp_path, group="function")) == {
        "/app/b.py:View.get": 4,
        "/app/a.py:View.get": 3,
    }


def test_a_module_sums_its_files(recording: SyntheticRecording, tmp_path: Path) -> None:
    packages = "/venv/lib/python3.11/site-packages"
    for file, size in (
        (f"{packages}/django/db/models.py", 1),
        (f"{packages}/django/http.py", 2),
        ("/usr/lib/python3.11/json/decoder.py", 4),
        ("/app/orders.py", 8),
    ):
        recording.live(size=size, site=recording.site([("f", file, size)]))
    assert held(top(recording, tmp_path, group="module")) == {
        "/app/orders": 8,
        "json.decoder": 4,
        "django": 3,
    }


def test_spans_of_one_name_are_one_row(recording: SyntheticRecording, tmp_path: Path) -> None:
    first, second = recording.span("GET /"), recording.span("GET /", end_ns=5 * SECOND)
    recording.live(size=1, span=first)
    recording.live(size=2, span=second)
    recording.live(size=4)
    rows = top(recording, tmp_path, group="span")
    assert held(rows) == {"<no span>": 4, "GET /": 3}
    assert {row.key: row.high_water_bytes for row in rows} == held(rows)


def test_a_phase_is_named_with_its_span(recording: SyntheticRecording, tmp_path: Path) -> None:
    recording.live(size=1)
    recording.live(size=2, phase=recording.phase("render", "GET /"))
    recording.live(size=4, phase=recording.phase("GET /", "GET /"))
    recording.live(size=8, phase=0)
    assert held(top(recording, tmp_path, group="phase")) == {
        "<no phase>": 8,
        "GET /": 4,
        "GET / > render": 2,
        "startup": 1,
    }


def test_a_thread_is_its_name(recording: SyntheticRecording, tmp_path: Path) -> None:
    recording.live(size=1, thread="worker", tid=1)
    recording.live(size=2, thread="worker", tid=2)
    recording.live(size=4, thread="")
    assert held(top(recording, tmp_path, group="thread")) == {"<no thread name>": 4, "worker": 3}


def test_a_domain_is_the_samples(recording: SyntheticRecording, tmp_path: Path) -> None:
    recording.live(size=1, site=recording.site([("f", "f.py", 1)], domain="MEM"))
    recording.live(size=2, domain="RAW")
    assert held(top(recording, tmp_path, group="domain")) == {"RAW": 2, "MEM": 1}


@pytest.mark.parametrize("group", ["site", "line", "function", "module"])
def test_samples_without_a_stack_are_one_row(
    recording: SyntheticRecording, tmp_path: Path, group: str
) -> None:
    recording.live(size=1)
    recording.live(size=2, site=recording._append(Region.SITES, node=0, domain=Domain.RAW))
    assert held(top(recording, tmp_path, group=group)) == {"<no Python stack>": 3}


@pytest.mark.parametrize("group", GROUPS)
def test_the_rows_of_every_group_sum_to_the_live_heap(
    recording: SyntheticRecording, tmp_path: Path, group: str
) -> None:
    sites = [recording.site([("f", f"/app/{i}.py", i), ("m", "/app/m.py", 1)]) for i in range(7)]
    spans = [0, *(recording.span(f"GET /{i % 2}") for i in range(3))]
    samples = [
        recording.live(
            size=i, weight=1000 + i, site=sites[i % 7], span=spans[i % 4], thread=f"t{i % 3}"
        )
        for i in range(100)
    ]
    for sample in samples[::3]:
        recording.free(sample)
    snapshot = read(recording.write(tmp_path / "recording"))
    rows = snapshot.top(group=group, limit=None)
    assert sum(row.live_bytes for row in rows) == snapshot.live_bytes
    assert sum(row.high_water_bytes for row in rows) == snapshot.high_water_bytes
    assert sum(row.samples for row in rows) == len(snapshot.live)
    assert len({row.key for row in rows}) == len(rows)


# Order


@pytest.mark.parametrize("by", ORDERS)
def test_rows_come_in_the_order_asked_for(
    recording: SyntheticRecording, tmp_path: Path, by: str
) -> None:
    random = np.random.default_rng(7)
    for i in range(50):
        recording.live(
            size=int(random.integers(1, 100)),
            weight=int(random.integers(100, 1000)),
            site=recording.site([("f", "f.py", i % 9)]),
            time_ns=int(random.integers(0, SECOND)),
        )
    everything = top(recording, tmp_path, by=by, limit=None)
    values = [getattr(row, by) for row in everything]
    assert values == sorted(values, reverse=True)
    assert top(recording, tmp_path, by=by, limit=3) == everything[:3]


def test_what_holds_nothing_now_is_shown_for_its_high_water_mark(
    recording: SyntheticRecording, tmp_path: Path
) -> None:
    gone, here = (recording.site([("f", "f.py", line)]) for line in (1, 2))
    recording.free(recording.live(size=100, site=gone))
    recording.live(size=10, site=here)
    rows = top(recording, tmp_path, by="high_water_bytes")
    assert [(row.key, row.high_water_bytes, row.live_bytes) for row in rows] == [
        ("f.py:1", 100, 0),
        ("f.py:2", 0, 10),
    ]
    assert rows[0].oldest_seconds == 0


def test_a_row_names_the_site_that_holds_most_of_it(
    recording: SyntheticRecording, tmp_path: Path
) -> None:
    small, large = (recording.site([("f", "f.py", line)]) for line in (1, 2))
    recording.live(size=10, site=small)
    recording.live(size=15, site=large)
    recording.live(size=4, site=small)
    assert top(recording, tmp_path, group="domain")[0].site == large


@pytest.mark.parametrize(("argument", "choices"), [("by", ORDERS), ("group", tuple(GROUPS))])
def test_unknown_names_are_refused_with_the_known_ones(
    recording: SyntheticRecording, tmp_path: Path, argument: str, choices: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError, match=", ".join(choices)):
        top(recording, tmp_path, **{argument: "address"})


# Arenas


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("standby", {"ARENA": 1 << 20, "RAW": 10, "OBJ": 5}), ("light", {"RAW": 10, "OBJ": 5})],
)
def test_arenas_are_heap_growth_in_standby_mode_and_left_out_in_others(
    tmp_path: Path, mode: str, expected: dict[str, int]
) -> None:
    recording = SyntheticRecording(mode=mode)
    stack = [("f", "f.py", 1)]
    recording.live(size=1 << 20, site=recording.site(stack, domain="ARENA"))
    recording.live(size=10, site=recording.site(stack, domain="RAW"))
    recording.live(size=5, site=recording.site(stack, domain="OBJ"))
    rows = top(recording, tmp_path, group="domain")
    assert held(rows) == expected
    assert {row.key: row.high_water_bytes for row in rows} == expected
    assert held(top(recording, tmp_path)) == {"f.py:1": sum(expected.values())}


def test_a_limit_below_zero_is_refused(recording: SyntheticRecording, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="limit is -1"):
        top(recording, tmp_path, limit=-1)
    assert top(recording, tmp_path, limit=0) == []
