"""A dump of a process that does not write one itself: it is dead, stuck, or its recorder is off.

Its recording is all there is; state.json says what the recording tells, and of the rest why it is missing.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from typing import TYPE_CHECKING, Any

from fastalloc.recording.copies import copy_recording
from fastalloc.recording.layout import Guard
from fastalloc.recording.reader import DUMP_RECORDING, DUMP_STATE, read
from fastalloc.recording.state import VERSION, schema

if TYPE_CHECKING:
    from pathlib import Path

    from fastalloc.recording.snapshot import Snapshot

MOST_SPANS = 1000


def write_outside_dump(recording: Path, pid: int, why: str) -> Path:
    """Write the folder `dump-<pid>-<unix ms>` beside `recording`; returns its path.

    Atomic as any dump. RecordingError, OSError; then nothing is left behind.
    """
    instant = int(time.time() * 1000)
    building = recording.parent / f".dump-{pid}-{instant}"
    building.mkdir(mode=0o700)
    try:
        copy_recording(recording, building / DUMP_RECORDING)
        state = _state(read(recording), why)
        descriptor = os.open(building / DUMP_STATE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(state, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        return _publish(building, recording.parent / building.name[1:])
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def _publish(building: Path, final: Path) -> Path:
    while final.exists():  # of the process itself, in this very millisecond
        prefix, _, instant = final.name.rpartition("-")
        final = final.with_name(f"{prefix}-{int(instant) + 1}")
    return building.rename(final)


def _state(snapshot: Snapshot, why: str) -> dict[str, Any]:
    header, told = snapshot.header, snapshot.options
    values, sources = (_dictionary(told, name) for name in ("options", "sources"))
    program, limit_source = (str(told.get(name, "")) for name in ("program", "limit_source"))
    number = header["guard_state"]
    state: dict[str, Any] = {
        "version": VERSION,
        "reason": "from outside",
        "time": time.time(),
        "state": snapshot.state,
        "from_outside": True,
        "process": {
            "pid": snapshot.pid,
            "parent_pid": snapshot.parent_pid,
            "program": program,
            "python": snapshot.python_version,
        },
        "memory": {
            "limit_bytes": snapshot.limit_bytes,
            "limit_source": limit_source,
            "rss_bytes": snapshot.rss_bytes,
            "cgroup_bytes": snapshot.cgroup_bytes,
            "live_bytes": snapshot.live_bytes,
            "high_water_bytes": snapshot.high_water_bytes,
        },
        "guard": {
            "state": Guard(number).name.lower() if number < len(Guard) else "unknown",
            "trips": header["guard_trips"],
            "guard_percent": header["guard_percent"],
            "summary_percent": header["summary_percent"],
            "usage_bytes": header["guard_usage_bytes"],
            "size": header["guard_size"],
        },
        "losses": {name: count for name, count in snapshot.losses.items() if count},
        "options": {
            name: {"value": value, "source": str(sources.get(name, ""))}
            for name, value in values.items()
            if isinstance(value, (str, int, float, bool, type(None)))
        },
        "spans": _spans(snapshot),
    }
    missing = {"skipped": f"written from outside: {why}"}
    return state | {name: missing for name in schema()["properties"] if name not in state}


def _spans(snapshot: Snapshot) -> dict[str, Any]:
    open_spans = snapshot.spans[snapshot.spans["open"] & (snapshot.spans["id"] != 0)]
    largest = open_spans[open_spans["live_bytes"].argsort(kind="stable")[::-1]]
    now = snapshot.duration_seconds
    names = ("id", "parent_id", "name", "attributes", "thread", "tid", "count", "bytes")
    items = [
        {
            **{name: _plain(span[name]) for name in (*names, "live_bytes")},
            "seconds": max(now - int(span["start_ns"]) / 1e9, 0.0),
        }
        for span in largest[:MOST_SPANS]
    ]
    return {"more": max(len(largest) - MOST_SPANS, 0), "items": items}


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _dictionary(told: dict[str, Any], name: str) -> dict[str, Any]:
    part = told.get(name)
    return part if isinstance(part, dict) else {}
