"""`fastalloc status`."""

from __future__ import annotations

import os
from pathlib import Path

from tests.cli.conftest import MIB, Command, shop_recording


def test_each_recording_has_a_row(fastalloc: Command, folder: Path) -> None:
    outcome = fastalloc("status", "--dir", folder)
    assert outcome.status == 0
    lines = outcome.out.splitlines()
    assert lines[0] == f"3 recordings in {folder}"
    assert [line.split()[0] for line in lines[2:]] == ["4242", "4242", "5151"]


def test_json_gives_numbers(fastalloc: Command, folder: Path) -> None:
    rows = fastalloc("status", "4242", "--dir", folder, "--json").json["recordings"]
    assert [row["live_bytes"] for row in rows] == [10, 9 * MIB]
    assert rows[1]["losses"] == {"deep_stack": 7}
    assert rows[1]["state"] == "exited"


def test_of_one_process_the_limits_and_the_share_of_requests_are_told(
    fastalloc: Command, tmp_path: Path
) -> None:
    recording = shop_recording(4242)
    recording.header["limit_index"] = 1
    recording.header["limit_bytes"] = 200 * MIB
    recording.header["limit_usage_bytes"] = 50 * MIB
    recording.options(
        {
            "limits": ["/sys/fs/cgroup/memory.max", "RLIMIT_AS", "MemTotal"],
            "limits_bytes": [100 * MIB, 200 * MIB, 300 * MIB],
            "options": {"request_percent": 2.5},
        }
    )
    recording.write(tmp_path / "fastalloc-4242-1700000000000.recording")
    text = fastalloc("status", "4242", "--dir", tmp_path).out
    assert "memory limit:         200.0 MiB (RLIMIT_AS), 50.0 MiB used" in text
    assert (
        "other limits:         100.0 MiB (/sys/fs/cgroup/memory.max), 300.0 MiB (MemTotal)" in text
    )
    assert "requests in detail:   2.5 %" in text
    (row,) = fastalloc("status", "4242", "--dir", tmp_path, "--json").json["recordings"]
    assert row["limit_source"] == "RLIMIT_AS"
    assert row["safety"]["request_percent"] == 2.5
    assert [limit["holds"] for limit in row["safety"]["limits"]] == [False, True, False]


def test_a_killed_process_is_called_so(fastalloc: Command, tmp_path: Path) -> None:
    recording = shop_recording(pid=os.getpid(), state="running")  # our PID, but started elsewhen
    recording.write(tmp_path / f"fastalloc-{os.getpid()}-1700000000000.recording")
    rows = fastalloc("status", "--dir", tmp_path, "--json").json["recordings"]
    assert [row["state"] for row in rows] == ["killed"]


def test_a_damaged_recording_does_not_hide_the_others(fastalloc: Command, folder: Path) -> None:
    (folder / "fastalloc-1-1600000000000.recording").write_bytes(b"damaged")
    outcome = fastalloc("status", "--dir", folder)
    assert outcome.status == 0
    assert "4 recordings" in outcome.out
    assert "unreadable: " in outcome.out
    assert "5151" in outcome.out
    rows = fastalloc("status", "--dir", folder, "--json").json["recordings"]
    assert len([row for row in rows if "error" in row]) == 1


def test_a_folder_that_is_not_there_holds_none(fastalloc: Command, tmp_path: Path) -> None:
    outcome = fastalloc("status", "--dir", tmp_path / "none")
    assert outcome.status == 0
    assert outcome.out.startswith("0 recordings in")


def test_a_process_without_a_recording_is_an_error(fastalloc: Command, folder: Path) -> None:
    outcome = fastalloc("status", "9999", "--dir", folder)
    assert outcome.status == 2
    assert "no recording of process 9999" in outcome.err
