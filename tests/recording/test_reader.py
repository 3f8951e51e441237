"""What `read` makes of files: sound, foreign, unfinished, cut, of live and dead processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastalloc.recording import layout
from fastalloc.recording.errors import RecordingError
from fastalloc.recording.process import is_alive
from fastalloc.recording.reader import read, read_copy
from tests.recording.synthetic import SECOND, SyntheticRecording


def start_ticks(pid: int) -> int:
    """Field 22 of the first thread's stat, which is the process's."""
    return int(Path(f"/proc/{pid}/task/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def recording_of(pid: int, start_monotonic_ns: int = 0) -> SyntheticRecording:
    """The recording of a running process."""
    return SyntheticRecording(
        state="running",
        pid=pid,
        process_start_ticks=start_ticks(pid),
        start_monotonic_ns=start_monotonic_ns,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "fastalloc-4242-1700000000000.recording"


def error_of(path: Path) -> str:
    with pytest.raises(RecordingError) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message and ";" in message, "one sentence: what is wrong; what to do"
    assert str(path) in message
    return message


# Files that are no recordings


def test_a_missing_file_is_named(path: Path) -> None:
    assert "no such file" in error_of(path)


def test_an_empty_file_holds_nothing(path: Path) -> None:
    path.touch()
    assert "is empty" in error_of(path)


def test_a_file_of_something_else_is_told_by_its_beginning(path: Path) -> None:
    path.write_text("#!/usr/bin/env python\nprint('hello')\n")
    assert "no fastalloc recording" in error_of(path)


@pytest.mark.parametrize("size", [8, 100, layout.HEADER.itemsize - 1])
def test_a_file_shorter_than_a_header_is_cut(path: Path, size: int) -> None:
    path.write_bytes(SyntheticRecording().to_bytes()[:size])
    assert "cut short" in error_of(path)


def test_a_file_that_lacks_its_end_is_cut(path: Path) -> None:
    path.write_bytes(SyntheticRecording().to_bytes()[:-1])
    assert "cut short" in error_of(path)


def test_a_file_of_zeros_was_never_finished(path: Path) -> None:
    path.write_bytes(bytes(layout.PAGE_BYTES))
    assert "not finished" in error_of(path)


def test_a_newer_layout_asks_for_a_newer_fastalloc(path: Path) -> None:
    SyntheticRecording(layout_version=layout.LAYOUT_VERSION + 1).write(path)
    assert "newer fastalloc" in error_of(path)


def test_an_older_layout_asks_for_an_older_fastalloc(path: Path) -> None:
    SyntheticRecording(layout_version=0).write(path)
    assert "older fastalloc" in error_of(path)


def test_a_folder_is_no_recording(tmp_path: Path) -> None:
    assert "no dump" in error_of(tmp_path)


def test_a_pipe_is_no_recording_and_does_not_block(path: Path) -> None:
    os.mkfifo(path)
    assert "not a regular file" in error_of(path)


def test_a_path_with_a_nul_is_an_error_like_others() -> None:
    with pytest.raises(RecordingError, match="cannot be opened"):
        read("a\0b")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_of_another_user_is_refused_with_advice(path: Path) -> None:
    SyntheticRecording().write(path)
    path.chmod(0)
    assert "no permission" in error_of(path)


def test_no_permission_is_said_with_advice(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    SyntheticRecording().write(path)
    monkeypatch.setattr(os, "open", refuse)
    assert "no permission" in error_of(path)


def test_a_file_cut_while_it_is_read_is_an_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SyntheticRecording().write(path)
    real = os.preadv

    def cut_then_read(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        if offset:
            os.truncate(path, 4096)
        return real(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", cut_then_read)
    assert "cut short while it was read" in error_of(path)


# Processes


def test_a_running_process_is_running(path: Path) -> None:
    snapshot = read(recording_of(os.getpid()).write(path))
    assert snapshot.state == "running"
    assert snapshot.consistent


def test_a_process_that_is_gone_without_saying_so_was_killed(path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        recording_of(child.pid).write(path)
        assert read(path).state == "running"
        child.kill()
    assert read(path).state == "killed"


def test_a_reused_pid_is_another_process(path: Path) -> None:
    recording = recording_of(os.getpid())
    recording.header["process_start_ticks"] -= 1
    assert read(recording.write(path)).state == "killed"


def test_a_zombie_does_not_live() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(child.pid, start_ticks(child.pid))
    child.wait()


def test_a_command_with_parentheses_does_not_hide_the_start(tmp_path: Path) -> None:
    folder = tmp_path / "77/task/77"
    folder.mkdir(parents=True)
    fields = ["S", *("0" for _ in range(18)), "12345", "0"]
    (folder / "stat").write_text(f"77 (a) b (c)) {' '.join(fields)}\n")
    assert is_alive(77, 12345, proc=tmp_path)
    assert not is_alive(77, 12346, proc=tmp_path)


@pytest.mark.parametrize("state", ["stopped", "exited", "empty"])
def test_other_states_are_as_written(path: Path, state: str) -> None:
    assert read(SyntheticRecording(state=state).write(path)).state == state


def test_a_running_process_lasts_until_now_and_a_killed_one_until_its_last_write(
    path: Path,
) -> None:
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    running = recording_of(os.getpid(), start_monotonic_ns=now - 90 * SECOND)
    running.live(size=10, time_ns=30 * SECOND)
    snapshot = read(running.write(path))
    assert snapshot.duration_seconds == pytest.approx(90, abs=5)
    assert snapshot.live["age_seconds"][0] == pytest.approx(60, abs=5)

    killed = SyntheticRecording(state="running", duration_ns=45 * SECOND)
    killed.live(size=10, time_ns=30 * SECOND)
    snapshot = read(killed.write(path))
    assert snapshot.duration_seconds == 45
    assert snapshot.live["age_seconds"][0] == 15


# Dumps


def test_a_dump_is_read_with_its_state(tmp_path: Path) -> None:
    recording = SyntheticRecording(state="running")
    recording.live(size=100)
    snapshot = read(recording.write_dump(tmp_path / "dump", reason="manual"))
    assert snapshot.live_bytes == 100
    assert snapshot.dump["reason"] == "manual" and "error" not in snapshot.dump
    assert snapshot.path == tmp_path / "dump"


def test_a_dump_shows_the_process_as_it_was_when_it_was_made(tmp_path: Path) -> None:
    recording = SyntheticRecording(state="running")
    assert read(recording.write_dump(tmp_path / "alive")).state == "running"
    assert read(recording.write_dump(tmp_path / "dead", state="killed")).state == "killed"


@pytest.mark.parametrize("text", ["", '{"reason":', "[]", "[" * 100_000, "\ufffd", "1" * 10_000])
def test_a_dump_whose_state_was_not_finished_is_still_read(tmp_path: Path, text: str) -> None:
    folder = SyntheticRecording().write_dump(tmp_path / "dump")
    (folder / "state.json").write_text(text)
    assert "state.json" in read(folder).dump["error"]
    (folder / "state.json").unlink()
    assert "state.json" in read(folder).dump["error"]


# Died while writing


def test_totals_of_a_process_that_died_writing_come_from_its_samples(path: Path) -> None:
    recording = SyntheticRecording(state="running", sequence=7)
    site = recording.site([("f", "f.py", 1)])
    arena = recording.site([("f", "f.py", 1)], domain="ARENA")
    span = recording.span("GET /")
    recording.live(size=10, weight=40, site=site, span=span)
    recording.live(size=5, weight=5, site=site)
    recording.live(size=1 << 20, site=arena)
    recording.header["live_bytes"] = 12345
    recording.header["live_samples"] = 99
    recording.tables[layout.Region.SITES][site]["held"]["live_bytes"] = 1
    recording.tables[layout.Region.SPANS][span]["held"]["live_bytes"] = 1
    snapshot = read(recording.write(path))
    assert snapshot.state == "killed"
    assert snapshot.repaired and not snapshot.consistent
    assert snapshot.live_bytes == 45
    assert snapshot.live_count == pytest.approx(5)
    assert snapshot.sites["live_bytes"][[site, arena]].tolist() == [45, 1 << 20]
    assert snapshot.spans["live_bytes"][span] == 40
    assert snapshot.phases["live_bytes"][1] == 45


def test_a_process_that_died_while_it_moved_its_stacks_keeps_all_but_them(path: Path) -> None:
    recording = SyntheticRecording(state="running", sequence=7)
    site = recording.site([("f", "f.py", 1), ("g", "f.py", 2)])
    recording.live(size=10, site=site, span=recording.span("GET /"))
    recording.header["sweeping"] = 1
    recording.tables[layout.Region.NODES][1]["parent"] = 2  # half moved: a circle
    snapshot = read(recording.write(path))
    assert snapshot.repaired
    assert snapshot.live_bytes == 10
    assert [row.key for row in snapshot.top(group="span")] == ["GET /"]
    assert [row.key for row in snapshot.top(group="line")] == ["<no Python stack>"]


def test_what_was_being_written_at_death_is_left_out(path: Path) -> None:
    recording = SyntheticRecording(state="running", sequence=7)
    recording.live(size=10, site=recording.site([("f", "f.py", 1)]))
    recording.live(size=20)
    recording.tables[layout.Region.LIVE][2]["site"] = 999
    recording.checkpoint("whole", time_ns=1)
    recording.checkpoint("half", time_ns=2)
    recording.tables[layout.Region.RECORDS][1]["sequence"] = 0
    snapshot = read(recording.write(path))
    assert snapshot.live["site"].tolist() == [1, 0]
    assert snapshot.checkpoints["name"].tolist() == ["whole"]


def test_the_same_in_a_file_that_claims_to_be_whole_is_damage(path: Path) -> None:
    recording = SyntheticRecording()
    recording.live(size=20)
    recording.tables[layout.Region.LIVE][1]["site"] = 999
    recording.write(path)
    assert "live[1].site is beyond sites" in error_of(path)


# Copies in memory


def test_a_copy_in_memory_is_read_like_the_file() -> None:
    recording = SyntheticRecording()
    recording.live(size=100, site=recording.site([("f", "f.py", 1)]))
    snapshot = read_copy(recording.to_bytes(), "of/this/process")
    assert snapshot.path == Path("of/this/process")
    assert [row.key for row in snapshot.top()] == ["f.py:1"]
    with pytest.raises(RecordingError, match="cut short"):
        read_copy(recording.to_bytes()[:-1], "memory")
