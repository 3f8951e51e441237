"""How the safety mechanisms stand, by what a recording says; any recording."""

from __future__ import annotations

from pathlib import Path

import pytest

import fastalloc
from fastalloc.analysis.safety import mechanisms
from fastalloc.recording.layout import Guard, Off
from tests.recording.synthetic import SyntheticRecording


def test_a_recording_that_nothing_happened_to(tmp_path: Path) -> None:
    found = mechanisms(fastalloc.read(SyntheticRecording().write(tmp_path / "a.recording")))
    assert (found["off"], found["off_reason"], found["control"]) == ("", "", "run")
    assert found["breakers_open"] == [] and found["kill_switch_url"] == ""
    assert found["asked_interval_bytes"] == found["interval_bytes"]
    assert found["file"] is False


def test_breakers_by_their_newest_event_and_the_interval_as_it_was_asked_for(
    tmp_path: Path,
) -> None:
    recording = SyntheticRecording()
    recording.options({"options": {"interval_bytes": 1000, "overhead_percent": 2}})
    recording.event("breaker", time_ns=1, a=1, span_name="one")
    recording.event("breaker", time_ns=2, a=1, span_name="two")
    recording.event("breaker", time_ns=3, a=0, span_name="one")
    found = mechanisms(fastalloc.read(recording.write(tmp_path / "a.recording")))
    assert found["breakers_open"] == ["two"]
    assert (found["asked_interval_bytes"], found["overhead_percent"]) == (1000, 2)
    recording.event("interval", time_ns=4, a=1000, b=5000)
    found = mechanisms(fastalloc.read(recording.write(tmp_path / "b.recording")))
    assert found["asked_interval_bytes"] == 5000


@pytest.mark.parametrize("reason", [reason for reason in Off if reason])
def test_each_reason_has_its_words(tmp_path: Path, reason: Off) -> None:
    recording = SyntheticRecording(off=int(reason), control=1)
    (tmp_path / "disabled").touch()
    found = mechanisms(fastalloc.read(recording.write(tmp_path / "a.recording")))
    assert found["off"] == reason.name.lower() and found["off_reason"]
    assert found["control"] == "disable" and found["file"] is True


def test_numbers_that_mean_nothing_are_no_trouble(tmp_path: Path) -> None:
    recording = SyntheticRecording(off=99, control=0xFFFF_FFFF, guard_state=len(Guard))
    recording.options(
        {
            "options": {"interval_bytes": "many", "kill_switch_url": ["x"]},
            "limits": ["a", 1],
            "limits_bytes": [None],
        }
    )
    found = mechanisms(fastalloc.read(recording.write(tmp_path / "a.recording")))
    assert found["off"] == "" and found["guard"]["state"] == "unknown"
