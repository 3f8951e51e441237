"""What a Snapshot says of a recording."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fastalloc.recording.errors import RecordingError
from fastalloc.recording.layout import Domain, Region
from fastalloc.recording.reader import read
from fastalloc.recording.snapshot import Snapshot
from fastalloc.recording.stacks import Frame
from tests.recording.synthetic import SECOND, SyntheticRecording


@pytest.fixture
def recording() -> SyntheticRecording:
    return SyntheticRecording()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recording"


def snapshot_of(recording: SyntheticRecording, path: Path) -> Snapshot:
    return read(recording.write(path))


def test_an_empty_recording_has_empty_tables(recording: SyntheticRecording, path: Path) -> None:
    snapshot = snapshot_of(recording, path)
    assert len(snapshot.live) == len(snapshot.freed) == len(snapshot.threads) == 0
    assert len(snapshot.records) == len(snapshot.checkpoints) == len(snapshot.timeline) == 0
    assert snapshot.live_bytes == snapshot.total_bytes == 0
    assert snapshot.top() == []
    assert snapshot.options == {}
    assert set(snapshot.losses.values()) == {0}


def test_scalars_are_in_plain_units(path: Path) -> None:
    recording = SyntheticRecording(
        mode="aggressive", parent_pid=17, rss_bytes=5, cgroup_bytes=6, limit_bytes=7
    )
    recording.lose("deep_stack", 3)
    recording.options({"max_frames": 64})
    snapshot = snapshot_of(recording, path)
    assert (snapshot.pid, snapshot.parent_pid) == (4242, 17)
    assert snapshot.mode == "aggressive"
    assert snapshot.interval_bytes == 512 * 1024
    assert snapshot.start_time == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert snapshot.duration_seconds == 60
    assert snapshot.python_version == "3.11.7"
    assert (snapshot.rss_bytes, snapshot.cgroup_bytes, snapshot.limit_bytes) == (5, 6, 7)
    assert snapshot.losses["deep_stack"] == 3
    assert snapshot.options == {"max_frames": 64}
    assert snapshot.header["max_frames"] == 64


def test_a_live_sample_stands_for_its_weight(recording: SyntheticRecording, path: Path) -> None:
    site = recording.site([("f", "f.py", 1)])
    span = recording.span("GET /")
    recording.live(size=100, weight=1000, site=site, span=span, thread="W", time_ns=20 * SECOND)
    recording.live(size=0, weight=16)
    sample, empty = snapshot_of(recording, path).live
    assert (sample["size"], sample["weight"], sample["count"]) == (100, 1000, 10)
    assert (sample["site"], sample["span"], sample["span_id"]) == (site, span, 1)
    assert sample["age_seconds"] == 40
    assert sample["thread_name"] == "W"
    assert sample["domain"] == Domain.OBJ
    assert empty["count"] == 1


def test_a_freed_block_is_not_live(recording: SyntheticRecording, path: Path) -> None:
    first, second = recording.live(size=10), recording.live(size=20)
    recording.free(first)
    recording.freed(size=10, time_ns=1, freed_ns=2, thread="W")
    snapshot = snapshot_of(recording, path)
    assert snapshot.live["size"].tolist() == [20]
    assert snapshot.live["address"].tolist() == [0x7F00_0000_0000 + 0x1000 * second]
    assert snapshot.live_bytes == 20
    assert snapshot.freed[["size", "time_ns", "freed_ns", "thread_name"]].tolist() == [
        (10, 1, 2, "W")
    ]


# The high-water mark


def test_the_high_water_mark_is_what_each_site_held_when_the_process_held_most(
    recording: SyntheticRecording, path: Path
) -> None:
    early, late = (recording.site([("f", "f.py", line)]) for line in (1, 2))
    block = recording.live(size=100, site=early)
    recording.live(size=10, site=late)
    recording.free(block)  # the mark, 110, is left behind
    recording.live(size=50, site=late)
    snapshot = snapshot_of(recording, path)
    assert snapshot.high_water_bytes == 110
    assert snapshot.live_bytes == 60
    assert snapshot.sites["high_water_bytes"][[early, late]].tolist() == [100, 10]
    assert snapshot.sites["live_bytes"][[early, late]].tolist() == [0, 60]


def test_what_was_not_touched_since_the_mark_holds_what_it_held_then(
    recording: SyntheticRecording, path: Path
) -> None:
    still, moving = (recording.site([("f", "f.py", line)]) for line in (1, 2))
    recording.live(size=100, site=still)
    recording.free(recording.live(size=10, site=moving))
    snapshot = snapshot_of(recording, path)
    assert snapshot.sites["high_water_bytes"][[still, moving]].tolist() == [100, 10]


def test_while_the_process_is_at_its_mark_what_is_live_is_the_mark(
    recording: SyntheticRecording, path: Path
) -> None:
    site = recording.site([("f", "f.py", 1)])
    recording.free(recording.live(size=100, site=site))
    recording.live(size=300, site=site)
    snapshot = snapshot_of(recording, path)
    assert snapshot.header["at_peak"] == 1
    assert snapshot.sites["high_water_bytes"][site] == 300
    assert snapshot.phases["high_water_bytes"][1] == 300


def test_at_every_moment_the_marks_of_all_sites_sum_to_the_processs(path: Path) -> None:
    recording = SyntheticRecording()
    sites = [recording.site([("f", "f.py", line)]) for line in range(1, 5)]
    blocks: list[int] = []
    for step in range(60):
        if step % 3 == 2 and blocks:
            recording.free(blocks.pop(step * 7 % len(blocks)))
        else:
            blocks.append(recording.live(size=1 + step * 37 % 101, site=sites[step % 4]))
        snapshot = snapshot_of(recording, path)
        assert snapshot.sites["high_water_bytes"].sum() == snapshot.high_water_bytes
        assert snapshot.phases["high_water_bytes"].sum() == snapshot.high_water_bytes
        assert snapshot.sites["live_bytes"].sum() == snapshot.live["weight"].sum()


# Exact counters


def test_phases_count_what_running_threads_did_in_them_and_sum_to_the_total(path: Path) -> None:
    recording = SyntheticRecording(ended_count=7, ended_bytes=70)
    phase = recording.phase("render", "GET /", count=5, bytes=50)
    span = recording.span("GET /", count=3, bytes=30)
    startup = recording.tables[Region.PHASES][1]
    startup["count"], startup["bytes"] = 2 + 20, 20 + 200
    # of the thread's 30 blocks, 20 were made before it entered its present scope
    recording.thread(count=30, bytes=300, count_mark=20, bytes_mark=200, phase=phase, span=span)
    snapshot = snapshot_of(recording, path)
    assert snapshot.phases["count"][[1, phase]].tolist() == [22, 15]
    assert snapshot.phases["bytes"][[1, phase]].tolist() == [220, 150]
    assert (snapshot.spans["count"][span], snapshot.spans["bytes"][span]) == (13, 130)
    assert snapshot.phases["count"].sum() == snapshot.total_count == 37
    assert snapshot.phases["bytes"].sum() == snapshot.total_bytes == 370


def test_a_countdown_below_zero_has_allocated_more_than_was_issued(
    recording: SyntheticRecording, path: Path
) -> None:
    recording.thread("W", bytes=100)
    slot = recording.tables[Region.THREADS][1]
    slot["left"], slot["issued"] = -40, 60
    snapshot = snapshot_of(recording, path)
    assert snapshot.threads[["name", "bytes"]].tolist() == [("W", 100)]
    assert snapshot.total_bytes == 100


def test_a_free_slot_is_no_thread(recording: SyntheticRecording, path: Path) -> None:
    recording.thread("gone", count=9, bytes=9, start_ns=0)
    recording.thread("here", count=1, bytes=1)
    snapshot = snapshot_of(recording, path)
    assert snapshot.threads["name"].tolist() == ["here"]
    assert snapshot.total_count == 1


# Spans, records, rings


def test_spans_are_open_until_they_end(recording: SyntheticRecording, path: Path) -> None:
    parent = recording.span("GET /", attributes="user=é")
    child = recording.span("query", parent_id=recording.span_id(parent), end_ns=2 * SECOND)
    spans = snapshot_of(recording, path).spans
    assert spans["open"].tolist() == [False, True, False]
    assert spans["attributes"][parent] == "user=é"
    assert spans["parent_id"][child] == spans["id"][parent] == 1
    assert spans["thread"][child] == "MainThread"


def test_a_free_entry_of_the_span_table_has_no_name(
    recording: SyntheticRecording, path: Path
) -> None:
    span = recording.span("GET /")
    row = recording.tables[Region.SPANS][span]
    row["id"], row["name"] = 0, 12345  # the next free entry, not a string
    spans = snapshot_of(recording, path).spans
    assert (spans["id"][span], spans["name"][span]) == (0, "")


def test_checkpoints_are_apart_from_finished_spans_and_phases(
    recording: SyntheticRecording, path: Path
) -> None:
    recording.checkpoint("half", time_ns=1, span_name="GET /", live_change_bytes=-5)
    recording.record("phase", "render", time_ns=2, span_name="GET /", count=3)
    recording.record("span", "GET /", time_ns=3, span_name="GET /", span_id=1)
    snapshot = snapshot_of(recording, path)
    assert snapshot.records[["kind", "name", "span_name"]].tolist() == [
        ("phase", "render", "GET /"),
        ("span", "GET /", "GET /"),
    ]
    assert snapshot.checkpoints[["name", "live_change_bytes"]].tolist() == [("half", -5)]


@pytest.mark.parametrize("written", [3, 4, 5, 8, 11])
def test_a_ring_gives_its_last_entries_oldest_first(path: Path, written: int) -> None:
    recording = SyntheticRecording(capacity={Region.RECORDS: 4, Region.EVENTS: 4})
    for number in range(1, written + 1):
        recording.checkpoint(f"c{number}", time_ns=number)
        recording.event("control", time_ns=number, a=number)
    snapshot = snapshot_of(recording, path)
    expected = list(range(max(1, written - 3), written + 1))
    assert snapshot.checkpoints["time_ns"].tolist() == expected
    assert snapshot.checkpoints["sequence"].tolist() == expected
    assert snapshot.events["a"].tolist() == expected


def test_the_timeline_is_by_minutes_first_and_by_seconds_lately(
    recording: SyntheticRecording, path: Path
) -> None:
    for minute in range(5):
        recording.tick(time_ns=minute * 60 * SECOND, long=True)
    for second in range(170, 173):
        recording.tick(time_ns=second * SECOND, live_bytes=second)
    timeline = snapshot_of(recording, path).timeline
    assert (timeline["time_ns"] // SECOND).tolist() == [0, 60, 120, 170, 171, 172]
    assert timeline["live_bytes"].tolist() == [0, 0, 0, 170, 171, 172]


def test_an_event_knows_its_stack(recording: SyntheticRecording, path: Path) -> None:
    site = recording.site([("f", "f.py", 1), ("main", "main.py", 2)])
    node = int(recording.tables[Region.SITES][site]["node"])
    recording.event("failed_allocation", time_ns=1, a=1 << 40, node=node, span_name="GET /")
    snapshot = snapshot_of(recording, path)
    event = snapshot.events[0]
    assert (event["kind"], event["a"], event["span_name"]) == (
        "failed_allocation",
        1 << 40,
        "GET /",
    )
    assert [frame.function for frame in snapshot.stack_of_node(event["node"])] == ["f", "main"]


# Strings and stacks


def test_a_stack_is_leaf_first(recording: SyntheticRecording, path: Path) -> None:
    site = recording.site([("leaf", "a.py", 1), ("main", "b.py", 2)])
    snapshot = snapshot_of(recording, path)
    assert snapshot.stack(site) == [Frame("leaf", "a.py", 1), Frame("main", "b.py", 2)]
    assert snapshot.stack(0) == []
    with pytest.raises(IndexError):
        snapshot.stack(99)
    with pytest.raises(IndexError):
        snapshot.stack_of_node(99)


def test_a_cut_stack_says_so_at_its_root(recording: SyntheticRecording, path: Path) -> None:
    site = recording.site([("leaf", "a.py", 1)], cut=True)
    assert snapshot_of(recording, path).stack(site)[-1].function == "[stack cut]"


def test_a_function_that_could_not_be_stored_is_unknown(
    recording: SyntheticRecording, path: Path
) -> None:
    node = recording.node(0, 0, 17)
    site = recording._append(Region.SITES, node=node)
    frame = snapshot_of(recording, path).stack(site)[0]
    assert frame == Frame("[unknown function]", "", 17)


def test_strings_are_found_by_id(recording: SyntheticRecording, path: Path) -> None:
    number = recording.string("naïve")
    snapshot = snapshot_of(recording, path)
    assert snapshot.string(number) == "naïve"
    assert snapshot.string(0) == ""
    for wrong in (number + 1, 2**31, -1, 2**40):
        with pytest.raises(RecordingError, match="no string"):
            snapshot.string(wrong)


def test_a_name_that_is_no_utf8_is_readable_all_the_same(
    recording: SyntheticRecording, path: Path
) -> None:
    recording.phase("xyz")
    recording._strings = bytearray(recording._strings.replace(b"xyz", b"x\xffz"))
    assert snapshot_of(recording, path).phases["name"].tolist() == ["", "startup", "x�z"]


def test_to_dict_is_json(recording: SyntheticRecording, path: Path) -> None:
    recording.span("GET /")
    recording.thread(count=1, bytes=10)
    recording.checkpoint("half", time_ns=1)
    recording.tick(time_ns=1)
    recording.event("start", time_ns=0)
    document = json.loads(json.dumps(snapshot_of(recording, path).to_dict()))
    assert document["pid"] == 4242
    assert [span["name"] for span in document["spans"]] == ["GET /"]
    assert [phase["name"] for phase in document["phases"]] == ["startup"]
    assert document["checkpoints"][0]["name"] == "half"
    assert document["start_time"] == "2023-11-14T22:13:20+00:00"
