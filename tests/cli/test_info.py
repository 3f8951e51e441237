"""`fastalloc info`."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import MIB, Command


def test_it_prints_process_options_losses_spans_and_phases(
    fastalloc: Command, recording: Path
) -> None:
    outcome = fastalloc("info", recording)
    assert outcome.status == 0
    for text in (
        str(recording),
        "4242",
        "exited",
        "1,234, 20.0 MiB (exact)",
        "deep stack 7",
        "interval_bytes",
        "environment",
        "manage.py",
        "GET /orders/",
        "method=GET",
        "render",
        "MainThread",
    ):
        assert text in outcome.out


def test_the_limit_says_what_it_left_out(fastalloc: Command, recording: Path) -> None:
    assert "more (--limit)" in fastalloc("info", recording, "--limit", 1).out


def test_json_is_the_whole_snapshot(fastalloc: Command, recording: Path) -> None:
    answer = fastalloc("info", recording, "--json").json
    assert answer["pid"] == 4242
    assert answer["live_bytes"] == 9 * MIB
