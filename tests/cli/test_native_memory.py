"""Whether native memory is recorded, and why not, as the commands tell of another process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Command
from tests.recording.synthetic import SECOND, SyntheticRecording

REFUSED = "another tool has patched malloc or mmap (_memray.so)"


@pytest.mark.parametrize(
    ("header", "reason", "told"),
    [
        ({"native": 1, "native_slots": 34}, "", "recorded, at 34 addresses of malloc and mmap"),
        ({"native": 1, "native_slots": 33}, "1 of 34", "33 addresses of malloc and mmap; 1 of 34"),
        ({}, REFUSED, f"not recorded: {REFUSED}"),
        ({}, "", "not recorded: not asked for (option native)"),
        ({"native": 1, "mode": 0}, "", "not recorded while recording is switched off"),
    ],
)
def test_status_and_info_say_how_it_stands(
    fastalloc: Command, tmp_path: Path, header: dict[str, Any], reason: str, told: str
) -> None:
    recording = SyntheticRecording(pid=4242)
    recording.header["native_reason"] = recording.string(reason)
    for name, value in header.items():
        recording.header[name] = value
    path = tmp_path / "fastalloc-4242-1700000000000.recording"
    recording.write(path)
    for command in (("status", "4242", "--dir", tmp_path), ("info", path)):
        lines = fastalloc(*command).out.splitlines()
        assert [line for line in lines if line.startswith("native memory") and told in line]
    row = fastalloc("status", "4242", "--dir", tmp_path, "--json").json["recordings"][0]
    assert row["native"] is bool(header.get("native")) and row["native_reason"] == reason
    answer = fastalloc("info", path, "--json").json
    assert answer["native"] is row["native"] and answer["native_reason"] == reason


def test_top_warns_of_what_it_does_not_see(fastalloc: Command, tmp_path: Path) -> None:
    recording = SyntheticRecording()
    recording.write(tmp_path / "without.recording")
    recording.header["native_reason"] = recording.string(REFUSED)
    recording.write(tmp_path / "refused.recording")
    assert "native memory" not in fastalloc("top", tmp_path / "without.recording").out
    assert REFUSED in fastalloc("top", tmp_path / "refused.recording").out


def test_on_off_and_a_gap_are_three_events(fastalloc: Command, tmp_path: Path) -> None:
    recording = SyntheticRecording()
    for second, a in enumerate((1, 2, 0)):
        recording.event("native", time_ns=SECOND * (second + 1), a=a, b=34)
    recording.write(tmp_path / "events.recording")
    told = [
        event["text"]
        for event in fastalloc("info", tmp_path / "events.recording", "--json").json["happened"]
    ]
    assert len(set(told)) == 3
    assert "hooked, at 34" in told[0] and "put back" in told[1] and "not hooked" in told[2]
