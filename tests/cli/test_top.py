"""`fastalloc top`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import MIB, ORDERS_LINE, Command


def test_the_biggest_holder_comes_first(fastalloc: Command, recording: Path) -> None:
    outcome = fastalloc("top", recording)
    assert outcome.status == 0
    rows = [line for line in outcome.out.splitlines() if ".py:" in line]
    assert [row.split()[-1] for row in rows] == ["shop/orders.py:10", "/app/main.py:3"]
    assert rows[0].split()[:2] == ["8.0", "MiB"]
    assert "89%" in rows[0]


def test_losses_are_said(fastalloc: Command, recording: Path) -> None:
    assert "losses: deep stack 7" in fastalloc("top", recording).out


def test_json_holds_the_rows_in_full(fastalloc: Command, recording: Path) -> None:
    answer = fastalloc("top", recording, "--json").json
    assert answer["live_bytes"] == 9 * MIB
    row = answer["rows"][0]
    assert row["key"] == ORDERS_LINE
    assert row["live_bytes"] == 8 * MIB
    assert row["samples"] == 1
    assert row["live_count"] == pytest.approx(8 * MIB / 1000)
    assert row["error_bytes"] == pytest.approx((8 * MIB * (8 * MIB - 1000)) ** 0.5)


@pytest.mark.parametrize(
    ("group", "first"),
    [
        ("function", "load_orders"),
        ("span", "GET /orders/"),
        ("phase", "render"),
        ("thread", "MainThread"),
    ],
)
def test_rows_may_be_other_things(
    fastalloc: Command, recording: Path, group: str, first: str
) -> None:
    rows = fastalloc("top", recording, "--group", group, "--json").json["rows"]
    assert first in rows[0]["key"]


@pytest.mark.parametrize("group", ["site", "line", "function", "span", "phase", "thread"])
@pytest.mark.parametrize("order", ["live_bytes", "live_count", "high_water_bytes"])
def test_every_order_and_group_prints(
    fastalloc: Command, recording: Path, group: str, order: str
) -> None:
    outcome = fastalloc("top", recording, "--group", group, "--by", order)
    assert outcome.status == 0
    assert outcome.err == ""


def test_the_limit_holds(fastalloc: Command, recording: Path) -> None:
    assert len(fastalloc("top", recording, "--limit", 1, "--json").json["rows"]) == 1


def test_off_a_terminal_nothing_is_coloured_or_cut(fastalloc: Command, tmp_path: Path) -> None:
    from tests.recording.synthetic import SyntheticRecording

    name = "very_" * 60 + "long"
    recording = SyntheticRecording()
    recording.live(size=100, site=recording.site([(name, f"/app/{name}.py", 1)]))
    out = fastalloc("top", recording.write(tmp_path / "long.recording")).out
    assert f"{name}.py:1" in out
    assert "\x1b" not in out
