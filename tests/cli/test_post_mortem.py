"""fastalloc post-mortem: what it prints, and the status it ends with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fastalloc.recording.layout import Exit
from tests.cli.conftest import MIB, Command, shop_recording
from tests.recording.synthetic import SECOND, SyntheticRecording


def died(folder: Path, pid: int = 4242, **header: int) -> SyntheticRecording:
    """A shop that was killed at 95 of 100 MiB, while a request ran."""
    recording = shop_recording(pid, state="running")
    for name, value in {
        "cgroup_bytes": 95 * MIB,
        "rss_bytes": 90 * MIB,
        "limit_bytes": 100 * MIB,
        "usage_ns": 60 * SECOND,
        **header,
    }.items():
        recording.header[name] = value
    recording.options({"limit_source": "/sys/fs/cgroup/memory.max", "program": "/app/manage.py"})
    recording.record(
        "span",
        "GET /orders/",
        time_ns=58 * SECOND,
        start_ns=57 * SECOND,
        live_change_bytes=5 * MIB,
    )
    for second in range(10, 60, 10):
        recording.tick(time_ns=second * SECOND, cgroup_bytes=second * MIB, rss_bytes=second * MIB)
    recording.write(folder / f"fastalloc-{pid}-1700000000000.recording")
    return recording


def test_it_says_how_it_ended_who_held_what_ran_and_how_it_climbed(
    fastalloc: Command, tmp_path: Path
) -> None:
    died(tmp_path)
    (tmp_path / "dump-4242-1700000059000").mkdir()
    done = fastalloc("post-mortem", tmp_path)
    assert done.status == 1
    text = done.out
    assert "1 died badly, 0 ended well, 0 alive" in text
    assert "process 4242 manage.py: killed: out of memory, likely; last seen 2023-11-14" in text
    assert "its cgroup used 95 % of the limit when last seen" in text
    assert "GET /orders/  8.0 MiB ± " in text
    assert "shop/orders.py:10  8.0 MiB" in text
    assert "load_orders (shop/orders.py:10)" in text
    assert "GET /orders/ [method=GET] in MainThread for 59.0 s, holds 8.0 MiB" in text
    assert "+8.0 MiB in open span GET /orders/" in text
    assert "▁▂▃▄▅█  cgroup 10.0 MiB -> 95.0 MiB of 100.0 MiB in 50.0 s" in text
    assert "dump-4242-1700000059000" in text
    assert "losses: deep stack 7" in text


def test_json_has_it_all(fastalloc: Command, tmp_path: Path) -> None:
    died(tmp_path)
    done = fastalloc("post-mortem", tmp_path, "--json")
    assert done.status == 1
    (death,) = done.json["deaths"]
    assert (death["ending"], death["certainty"]) == ("out_of_memory", "likely")
    assert death["usage"]["percent"] == 95.0
    assert death["spans"][0]["key"] == "GET /orders/"
    assert death["lines"][0]["key"].endswith("shop/orders.py:10")
    assert death["lines"][0]["error_bytes"] > 0
    assert death["running"][0]["name"] == "GET /orders/"
    assert death["threads"][0]["name"] == "MainThread"
    assert death["jump"]["change_bytes"] == 8 * MIB
    assert [point["cgroup_bytes"] // MIB for point in death["climb"]] == [10, 20, 30, 40, 50, 95]
    assert death["climb"][0]["before_end_seconds"] == 50.0


def test_clean_ends_are_counted_and_are_no_failure(fastalloc: Command, tmp_path: Path) -> None:
    recording = shop_recording()
    recording.header["exit_kind"] = Exit.CLEAN
    recording.write(tmp_path / "fastalloc-4242-1700000000000.recording")
    done = fastalloc("post-mortem", tmp_path)
    assert done.status == 0
    assert done.out.strip().endswith("0 died badly, 1 ended well, 0 alive")


def test_an_exception_is_named(fastalloc: Command, tmp_path: Path) -> None:
    recording = shop_recording()
    recording.header["exit_kind"] = Exit.EXCEPTION
    recording.header["exit_name"] = recording.string("LookupError")
    recording.write(tmp_path / "fastalloc-4242-1700000000000.recording")
    done = fastalloc("post-mortem", tmp_path)
    assert done.status == 1
    assert "ended by an exception (LookupError), certain" in done.out


@pytest.mark.parametrize(
    ("since", "found"),
    [("2023-11-14T22:14:00", 1), ("2023-11-14T22:14:30+00:00", 0), ("1h", 0), ("90000d", 1)],
)
def test_since_leaves_out_what_was_seen_before(
    fastalloc: Command, tmp_path: Path, since: str, found: int
) -> None:
    died(tmp_path)  # last seen 2023-11-14 22:14:20
    done = fastalloc("post-mortem", tmp_path, "--since", since, "--json")
    assert done.status == found
    assert done.json["died_badly"] == found


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("/nowhere",), "there is no such folder"),
        (("--since", "yesterday"), "neither a time ago"),
        (("--since", "1e999d"), "neither a time ago"),
        (("--limit", "0"), "not a number from 1 on"),
    ],
)
def test_bad_input_is_said_in_one_line(
    fastalloc: Command, arguments: tuple[str, ...], reason: str
) -> None:
    done = fastalloc("post-mortem", *arguments)
    assert done.status == 2
    assert reason in done.err
    assert len(done.err.splitlines()) == 1


def test_an_unreadable_recording_does_not_hide_the_others(
    fastalloc: Command, tmp_path: Path
) -> None:
    died(tmp_path)
    (tmp_path / "fastalloc-1-1700000000000.recording").write_bytes(b"nonsense")
    done = fastalloc("post-mortem", tmp_path)
    assert done.status == 1
    assert "1 died badly" in done.out
    assert "unreadable: " in done.out


def test_a_package_that_is_run_is_called_by_its_name(fastalloc: Command, tmp_path: Path) -> None:
    recording = died(tmp_path)
    recording.options({"program": "/venv/lib/python3.11/site-packages/gunicorn/__main__.py"})
    recording.write(tmp_path / "fastalloc-4242-1700000000000.recording")
    assert "process 4242 gunicorn: " in fastalloc("post-mortem", tmp_path).out


@pytest.mark.parametrize(
    ("reason", "state", "status"),
    [
        ("guard", "", 0),
        ("manual", "", 0),
        ("request", "", 0),
        ("signal SIGUSR2", "", 0),
        ("from outside", "running", 0),
        ("from outside", "killed", 1),
    ],
)
def test_a_dump_whose_recording_is_gone_tells_for_itself(
    fastalloc: Command, tmp_path: Path, reason: str, state: str, status: int
) -> None:
    dump = tmp_path / "dump-4242-1700000059000"
    dump.mkdir()
    died(tmp_path)
    (tmp_path / "fastalloc-4242-1700000000000.recording").rename(dump / "recording.fastalloc")
    told = {"version": 1, "reason": reason, "state": state}
    (dump / "state.json").write_text(json.dumps(told))
    done = fastalloc("post-mortem", tmp_path, "--json")
    assert done.status == status
    (death,) = done.json["deaths"]
    assert (death["ending"], death["name"]) == ("dumped", reason)
    assert death["spans"][0]["key"] == "GET /orders/"
    assert death["dumps"] == [str(dump)]


def test_the_odd_worker_of_a_fleet_is_named(fastalloc: Command, tmp_path: Path) -> None:
    died(tmp_path)
    for pid in (4243, 4244):
        other = shop_recording(pid)
        other.options({"program": "/app/manage.py"})
        other.write(tmp_path / f"fastalloc-{pid}-1700000000000.recording")
    text = fastalloc("post-mortem", tmp_path).out
    assert "3 recorded, 0 alive, 1 died badly" in text
    assert "the odd one is 4242: it alone died badly" in text
    (fleet,) = fastalloc("post-mortem", tmp_path, "--json").json["fleets"]
    assert fleet["odd_pid"] == 4242


def test_log_tells_of_each_death_once(fastalloc: Command, tmp_path: Path) -> None:
    died(tmp_path)
    done = fastalloc("post-mortem", tmp_path, "--log")
    assert done.status == 1
    line = done.json
    assert len(done.out.splitlines()) == 1
    assert (line["dead_pid"], line["ending"], line["span"]) == (
        4242,
        "out_of_memory",
        "GET /orders/",
    )
    assert line["usage_percent"] == 95
    assert fastalloc("post-mortem", tmp_path, "--log").out == ""
    died(tmp_path, 4250)
    assert fastalloc("post-mortem", tmp_path, "--log").json["dead_pid"] == 4250
