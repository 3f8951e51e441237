"""Whatever a file holds, reading it gives a Snapshot or a RecordingError: nothing else."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastalloc.recording.errors import RecordingError
from fastalloc.recording.holders import GROUPS
from fastalloc.recording.layout import ENTRY, HEADER, PAGE_BYTES, REGION, RINGS, Region
from fastalloc.recording.reader import read
from fastalloc.recording.snapshot import Snapshot
from tests.recording.synthetic import SECOND, SyntheticRecording

REGIONS_OFFSET = HEADER.itemsize - REGION.itemsize * len(Region)
"""The regions are the last of the header."""


def full_recording(sequence: int = 2) -> SyntheticRecording:
    """A recording with something in every table."""
    recording = SyntheticRecording(sequence=sequence, state="running")
    stacks = [[("leaf", f"/app/{i}.py", i), ("main", "/app/main.py", 3)] for i in range(1, 6)]
    sites = [recording.site(stack) for stack in stacks]
    spans = [recording.span(f"GET /{i}", attributes="user=7") for i in range(3)]
    phase = recording.phase("render", "GET /1")
    for i in range(40):
        recording.live(
            size=i, weight=100 + i, site=sites[i % 5], span=spans[i % 3], phase=phase, thread="W"
        )
    for i in range(1, 40, 7):
        recording.free(i)
        recording.freed(size=i, weight=100, site=sites[0], thread="W")
    recording.thread("W", count=10, bytes=1000, span=spans[0], phase=phase)
    recording.record("span", "GET /", time_ns=SECOND, span_name="GET /")
    recording.checkpoint("half", time_ns=SECOND)
    recording.tick(time_ns=SECOND)
    recording.tick(time_ns=SECOND, long=True)
    recording.event("mode", time_ns=SECOND, node=2, span_name="GET /1")
    recording.options({"mode": "light"})
    return recording


SOUND = {sequence: full_recording(sequence).to_bytes() for sequence in (2, 3)}


def use(snapshot: Snapshot) -> None:
    """Ask for everything a snapshot has."""
    json.dumps(snapshot.to_dict())
    assert len(snapshot.live) + len(snapshot.freed) < 10_000
    assert snapshot.thread_names is not None
    for group in GROUPS:
        for row in snapshot.top(group=group, limit=None):
            assert row.samples >= 0
    for site in range(len(snapshot.sites)):
        snapshot.stack(site)
    for node in snapshot.events["node"].tolist():
        snapshot.stack_of_node(node)


def read_or_refuse(path: Path, image: bytes) -> None:
    path.write_bytes(image)
    try:
        snapshot = read(path)
    except RecordingError:
        return
    use(snapshot)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged") / "recording"


@pytest.mark.parametrize("sequence", [2, 3])
def test_the_sound_recording_is_read(path: Path, sequence: int) -> None:
    path.write_bytes(SOUND[sequence])
    use(read(path))


relaxed = settings(
    max_examples=300, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def interesting_offsets() -> st.SearchStrategy[int]:
    """Offsets in the file: mostly where something is."""
    image = np.frombuffer(SOUND[2], np.uint8)
    used = np.flatnonzero(image).tolist()
    return st.one_of(
        st.integers(0, len(image) - 1), st.sampled_from(used), st.integers(0, HEADER.itemsize - 1)
    )


@relaxed
@given(
    sequence=st.sampled_from([2, 3]),
    flips=st.lists(st.tuples(interesting_offsets(), st.integers(0, 7)), min_size=1, max_size=20),
)
def test_flipped_bits_do_no_harm(path: Path, sequence: int, flips: list[tuple[int, int]]) -> None:
    image = bytearray(SOUND[sequence])
    for offset, bit in flips:
        image[offset] ^= 1 << bit
    read_or_refuse(path, bytes(image))


@relaxed
@given(
    sequence=st.sampled_from([2, 3]),
    offset=interesting_offsets(),
    value=st.sampled_from([0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1]),
)
def test_extreme_numbers_do_no_harm(path: Path, sequence: int, offset: int, value: int) -> None:
    image = bytearray(SOUND[sequence])
    offset &= ~7
    image[offset : offset + 8] = value.to_bytes(8, "little")
    read_or_refuse(path, bytes(image))


@relaxed
@given(size=st.integers(0, len(SOUND[2])), filler=st.sampled_from([b"", b"\0", b"\xff"]))
def test_a_file_cut_anywhere_and_filled_up_does_no_harm(
    path: Path, size: int, filler: bytes
) -> None:
    image = SOUND[2][:size] + filler * (len(SOUND[2]) - size)
    read_or_refuse(path, image)


@relaxed
@given(data=st.data(), sequence=st.sampled_from([2, 3]))
def test_random_tables_do_no_harm(path: Path, data: st.DataObject, sequence: int) -> None:
    image = bytearray(SOUND[sequence])
    region = data.draw(st.sampled_from(Region))
    entry = np.frombuffer(image, REGION, 1, REGIONS_OFFSET + REGION.itemsize * region)[0]
    start = int(entry["offset"])
    length = int(entry["capacity"]) * int(entry["stride"])
    seed = data.draw(st.integers(0, 2**32))
    image[start : start + length] = np.random.default_rng(seed).bytes(length)
    read_or_refuse(path, bytes(image))


@relaxed
@given(
    region=st.sampled_from(Region),
    field=st.sampled_from(["offset", "used", "capacity", "stride"]),
    value=st.integers(0, 2**32 - 1),
)
def test_random_regions_do_no_harm(path: Path, region: Region, field: str, value: int) -> None:
    image = bytearray(SOUND[2])
    regions = np.frombuffer(image, REGION, len(Region), REGIONS_OFFSET)
    regions[region][field] = value
    read_or_refuse(path, bytes(image))


# Single lies, each refused with the reason


def refused(recording: SyntheticRecording, path: Path, reason: str) -> None:
    recording.write(path)
    with pytest.raises(RecordingError, match=reason):
        read(path)


def test_tables_may_not_overlap(path: Path) -> None:
    image = bytearray(SOUND[2])
    regions = np.frombuffer(image, REGION, len(Region), REGIONS_OFFSET)
    regions[Region.LIVE]["offset"] = regions[Region.NODES]["offset"]
    path.write_bytes(image)
    with pytest.raises(RecordingError, match="in another table"):
        read(path)


@pytest.mark.parametrize("region", sorted(set(Region) - RINGS))
def test_a_table_may_not_use_more_than_it_holds(path: Path, region: Region) -> None:
    image = bytearray(SOUND[2])
    regions = np.frombuffer(image, REGION, len(Region), REGIONS_OFFSET)
    regions[region]["used"] = int(regions[region]["capacity"]) + 1
    path.write_bytes(image)
    with pytest.raises(RecordingError, match="more entries in use"):
        read(path)


def test_a_node_may_not_be_its_own_ancestor(path: Path) -> None:
    recording = full_recording()
    recording.tables[Region.NODES][1]["parent"] = 2
    refused(recording, path, "does not come before its child")


def test_a_stack_may_not_be_absurdly_deep(path: Path) -> None:
    recording = full_recording()
    recording.site([("f", "f.py", line) for line in range(2000)])
    refused(recording, path, "2000 frames")


def test_strings_may_not_overlap(path: Path) -> None:
    recording = full_recording()
    start = recording.string("x")
    blob = bytearray(b"\x01\x01" * 400)
    recording._strings += blob
    for entry in range(100):
        at = start + 4 + 2 * entry
        recording._strings[at + 2 + 257] = 0
        recording.tables[Region.FUNCTIONS].append(
            np.array([(at, 0, 0, 0)], ENTRY[Region.FUNCTIONS])[0]
        )
    recording._strings += bytes(600)
    with pytest.raises(RecordingError, match="strings overlap"):
        read(recording.write(path))


def test_a_header_that_claims_terabytes_costs_nothing(path: Path) -> None:
    image = bytearray(SOUND[2])
    header = np.frombuffer(image, HEADER, 1)[0]
    huge = 1 << 42
    header["file_bytes"] = huge
    header["regions"][Region.EVENTS]["offset"] = (len(image) // PAGE_BYTES + 1) * PAGE_BYTES
    header["regions"][Region.EVENTS]["capacity"] = 2**32 - 1
    header["regions"][Region.EVENTS]["used"] = 2**32 - 1
    with path.open("wb") as file:
        file.write(image)
        file.truncate(huge)  # sparse: it takes no disk
    tracemalloc.start()
    try:
        with pytest.raises(RecordingError, match="claim more than"):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()
        path.unlink()
