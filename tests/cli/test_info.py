"""`fastalloc info`."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import MIB, Command, shop_recording


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


def test_a_dumps_state_is_shown_first_and_cannot_move_the_cursor(
    fastalloc: Command, tmp_path: Path
) -> None:
    evil = "\x1b[2Jworker\r\x07\ud800"
    stack = [{"file": "/srv/app.py", "function": evil, "line": 7}]
    thread = {"name": evil, "tid": 1, "span_id": 3, "stack": stack}
    jump = {"from": "loaded", "to": evil, "bytes": 5 * MIB, "span_id": 3, "span": "GET /"}
    dump = shop_recording().write_dump(
        tmp_path / "dump",
        reason=evil,
        threads={"items": [thread]},
        checkpoints={"items": [], "largest_jump": jump},
        guard={"state": "tripped", "trips": 1, "usage_bytes": 90 * MIB, "size": 12 * MIB},
        objects={"skipped": "no time is left (dump_max_ms)"},
    )
    out = fastalloc("info", dump).out
    first = out.partition("recording")[0]
    assert "worker" in first and "tripped at 90.0 MiB, by an allocation of 12.0 MiB" in first
    assert "5.0 MiB from loaded to" in first and "objects skipped: no time" in first
    assert not set("\x1b\r\x07\ud800") & set(first)


def test_a_damaged_state_is_named_and_the_recording_is_shown(
    fastalloc: Command, tmp_path: Path
) -> None:
    dump = shop_recording().write_dump(tmp_path / "dump", threads=[1], tasks={"items": {}})
    out = fastalloc("info", dump).out
    assert "state.json is damaged (wrong: threads, tasks)" in out and "GET /orders/" in out
    assert "error" in fastalloc("info", dump, "--json").json["dump"]


def test_it_says_what_resident_memory_looks_like(fastalloc: Command, tmp_path: Path) -> None:
    recording = shop_recording()
    look = recording.header["resident"]
    look["time_ns"] = recording.header["updated_ns"]
    for name, mib in {"anon": 120, "file": 10, "malloc_live": 50, "malloc_free": 60}.items():
        look[f"{name}_bytes"] = mib * MIB
    path = recording.write(tmp_path / "fastalloc-4242-1700000060000.recording")
    out = fastalloc("info", path).out
    assert "malloc, free" in out and "46%" in out and "mappings of libraries" in out
    (line,) = [line for line in out.splitlines() if line.startswith("verdict: ")]
    assert "fragmentation: 60.0 MiB, 46% of RSS" in line and "Try: malloc_trim(0)" in line
    answer = fastalloc("info", path, "--json").json
    assert answer["verdict"]["kind"] == "fragmentation"
    assert answer["resident"]["malloc_free_bytes"] == 60 * MIB


def test_of_a_process_that_ended_unasked_it_says_so(fastalloc: Command, recording: Path) -> None:
    out = fastalloc("info", recording).out
    assert "resident memory (not asked before the end)" in out and "unknown" in out
