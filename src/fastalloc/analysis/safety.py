"""How the safety mechanisms of a process stand, as far as its recording tells from outside.

What only the process itself knows (each breaker's failures, the level) is in `fastalloc.status()` and
in dumps.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastalloc.recording.layout import Control, Guard, Off

if TYPE_CHECKING:
    from fastalloc.recording.snapshot import Snapshot

FILE_NAME = "disabled"
OFF = {
    Off.PROGRAM: "the program called fastalloc.disable()",
    Off.CONTROL: "`fastalloc disable`; switch on with `fastalloc enable`",
    Off.FILE: "the file `disabled` in the folder; remove it to go on",
    Off.KEY: "the shared key of kill_switch_url; unset it to go on",
    Off.GUARD: "the guard: memory usage passed guard_percent of the limit",
    Off.OVERHEAD: "recording took more CPU time than overhead_percent; `fastalloc enable` to go on",
}


def mechanisms(snapshot: Snapshot) -> dict[str, Any]:
    """The mechanisms as plain values, fit for JSON.

    off, off_reason: why recording is off, "" if it is not. control: the control word. file: whether the
    folder has the file `disabled`. kill_switch_url: "" if none. interval_bytes: now, and
    asked_interval_bytes as it was asked for. own_cpu_percent: of the process's CPU time, when last compared;
    overhead_percent: its budget, None where it depends on the mode. breakers_open: layers that are
    switched off. guard: state, trips, percent and summary_percent. request_percent: how many of the
    requests are looked at in detail, None if it was not noted. limits: all that are watched, the smallest
    first: limit_bytes, source, and whether it holds: it is the one that usage is compared with now.
    """
    header = snapshot.header
    given = snapshot.options.get("options")
    options = given if isinstance(given, dict) else {}
    off = header["off"]
    return {
        "off": Off(off).name.lower() if off in OFF else "",
        "off_reason": OFF.get(Off(off), "") if off in OFF else "",
        "control": _control(header["control"]),
        "file": (Path(snapshot.path).parent / FILE_NAME).exists(),
        "kill_switch_url": str(options.get("kill_switch_url", "")),
        "interval_bytes": snapshot.interval_bytes,
        "asked_interval_bytes": _asked_interval(snapshot, options),
        "own_cpu_percent": header["own_cpu_millionths"] / 10_000,
        "overhead_percent": options.get("overhead_percent"),
        "breakers_open": _open_breakers(snapshot),
        "guard": {
            "state": Guard(header["guard_state"]).name.lower()
            if header["guard_state"] < len(Guard)
            else "unknown",
            "trips": header["guard_trips"],
            "percent": header["guard_percent"],
            "summary_percent": header["summary_percent"],
        },
        "request_percent": options.get("request_percent"),
        "limits": limits(snapshot),
    }


def limits(snapshot: Snapshot) -> list[dict[str, Any]]:
    """The memory limits that the process found at its start, the smallest first, as they were last: without
    those that are not set."""
    sources, sizes = (snapshot.options.get(name) for name in ("limits", "limits_bytes"))
    if not isinstance(sources, list) or not isinstance(sizes, list):
        return []
    changes = snapshot.events[snapshot.events["kind"] == "limit"]
    now = {str(event["span_name"]): int(event["b"]) for event in changes}  # the last one counts
    found = []
    for i, (source, size) in enumerate(zip(sources, sizes, strict=False)):
        size = now.get(str(source), size)
        holds = i == snapshot.header["limit_index"]
        if isinstance(size, int) and size:
            found.append({"limit_bytes": size, "source": str(source), "holds": holds})
    return found


def limit_source(snapshot: Snapshot) -> str:
    """Where the limit in force comes from: a file, or a name such as RLIMIT_AS; "none" without one."""
    holds = [limit["source"] for limit in limits(snapshot) if limit["holds"]]
    return holds[0] if holds else str(snapshot.options.get("limit_source", "none"))


def _control(word: int) -> str:
    if word in (Control.RUN, Control.DISABLE):
        return Control(word).name.lower()
    return "enable"


def _asked_interval(snapshot: Snapshot, options: dict[str, Any]) -> int:
    """By the newest event that tells of one; else as the options at the start say."""
    events = snapshot.events
    asked = events[events["kind"] == "interval"]
    if len(asked):
        return int(asked["b"][-1])
    given = options.get("interval_bytes")
    return given if isinstance(given, int) else snapshot.interval_bytes


def _open_breakers(snapshot: Snapshot) -> list[str]:
    """Layers whose newest event says that they were switched off."""
    events = snapshot.events
    states = {
        str(event["span_name"]): int(event["a"]) == 1
        for event in events[events["kind"] == "breaker"]
    }
    return sorted(layer for layer, is_open in states.items() if is_open)
