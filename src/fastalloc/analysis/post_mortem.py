"""What dead processes leave: how each ended, who held its memory, what ran, how usage climbed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastalloc.analysis.endings import (
    Ending,
    Usage,
    ending,
    ending_of_dump,
    usage,
)
from fastalloc.analysis.fleets import Fleet, fleets
from fastalloc.analysis.lives import Life, life, went_on_as
from fastalloc.analysis.machine import Machine
from fastalloc.recording.errors import RecordingError
from fastalloc.recording.folder import Entry, dumps, recordings
from fastalloc.recording.holders import NO_SPAN
from fastalloc.recording.reader import read

if TYPE_CHECKING:
    from pathlib import Path

    from fastalloc.recording.holders import Row
    from fastalloc.recording.snapshot import Snapshot

MAX_RECORDINGS = 1000
"""The newest are looked at; more would take minutes."""
MAX_ORPHANS = 20
"""Dumps without a recording: the newest are looked at."""
CLIMB_SECONDS = 60.0
DUMP_AFTER_SECONDS = 60.0


class Running(NamedTuple):
    """A span that was open at the end."""

    name: str
    attributes: str
    thread: str
    age_seconds: float
    live_bytes: int
    phases: list[str]
    """What threads in it were in: the phase's name."""


class Thread(NamedTuple):
    """A thread that ran at the end."""

    name: str
    tid: int
    span: str
    phase: str
    allocated_bytes: int
    """Ever, exact."""


class Jump(NamedTuple):
    """A span or phase during which the process's live heap grew most."""

    kind: str
    """span, phase, or "open span": one that never finished, with what it holds."""
    name: str
    change_bytes: int
    """Estimated."""
    seconds: float
    """It took."""
    before_end_seconds: float
    """It ended so long before the process did."""


class Point(NamedTuple):
    """One reading of usage."""

    before_end_seconds: float
    rss_bytes: int
    cgroup_bytes: int
    live_bytes: int


class Death(NamedTuple):
    """One process that has ended."""

    snapshot: Snapshot
    ending: Ending
    usage: Usage
    last_seen: datetime
    """UTC: its last sign of life."""
    spans: list[Row]
    lines: list[Row]
    """By the program's own line: memory that a library asked for counts for who called it."""
    grown_lines: list[Row]
    """Lines by what they allocated within CLIMB_SECONDS of the end and still held."""
    stack: list[str]
    """That of the biggest site of the first of `lines`, leaf first: "function (path:line)"."""
    running: list[Running]
    threads: list[Thread]
    jump: Jump | None
    climb: list[Point]
    """Of the last CLIMB_SECONDS, the newest last."""
    dumps: list[Path]
    """That it wrote, the newest last."""

    @property
    def program(self) -> str:
        return str(self.snapshot.options.get("program", ""))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        snapshot = self.snapshot
        return {
            "pid": snapshot.pid,
            "parent_pid": snapshot.parent_pid,
            "program": self.program,
            "recording": str(snapshot.path),
            "ending": self.ending.kind,
            "certainty": self.ending.certainty,
            "name": self.ending.name,
            "is_bad": self.ending.is_bad,
            "evidence": self.ending.evidence,
            "start_time": snapshot.start_time.isoformat(),
            "last_seen": self.last_seen.isoformat(),
            "recorded_seconds": snapshot.duration_seconds,
            "usage": {**self.usage._asdict(), "percent": self.usage.percent},
            "live_bytes": snapshot.live_bytes,
            "high_water_bytes": snapshot.high_water_bytes,
            "spans": [row._asdict() for row in self.spans],
            "lines": [row._asdict() for row in self.lines],
            "grown_lines": [row._asdict() for row in self.grown_lines],
            "stack": self.stack,
            "running": [span._asdict() for span in self.running],
            "threads": [thread._asdict() for thread in self.threads],
            "jump": self.jump._asdict() if self.jump else None,
            "climb": [point._asdict() for point in self.climb],
            "dumps": [str(path) for path in self.dumps],
            "losses": {name: count for name, count in snapshot.losses.items() if count},
            "repaired": snapshot.repaired,
        }

    def to_line(self) -> dict[str, Any]:
        """The little that fits a line of log, for JSON."""
        line: dict[str, Any] = {
            "dead_pid": self.snapshot.pid,
            "program": self.program,
            "ending": self.ending.kind,
            "certainty": self.ending.certainty,
            "name": self.ending.name,
            "last_seen": self.last_seen.isoformat(timespec="seconds"),
            "usage_percent": round(self.usage.percent),
            "limit_bytes": self.usage.limit_bytes,
            "live_bytes": self.snapshot.live_bytes,
        }
        for name, rows in (("span", self.spans), ("line", self.lines)):
            if rows:
                line[name] = rows[0].key
                line[f"{name}_bytes"] = rows[0].live_bytes
                line[f"{name}_error_bytes"] = round(rows[0].error_bytes)
        line["evidence"] = self.ending.evidence[:2]
        line["recording"] = str(self.snapshot.path)
        if self.dumps:
            line["dump"] = str(self.dumps[-1])
        return line


class Report(NamedTuple):
    """A folder's dead."""

    deaths: list[Death]
    """The newest last."""
    fleets: list[Fleet]
    """Workers of one master, of which at least one is among `deaths`."""
    alive: int
    """Processes that still run."""
    unreadable: list[str]
    """A sentence each."""


def examine(
    directory: Path,
    since: datetime | None = None,
    limit: int = 5,
    machine: Machine | None = None,
) -> Report:
    """Look at every recording in `directory` whose process has ended.

    `since`: only those seen after it. `limit`: rows per table. OSError where the folder cannot be
    listed. Cost: some 10 ms for each recording, MAX_RECORDINGS at most, the newest.
    """
    machine = machine or Machine()
    lives, unreadable = _read_all(directory)
    made = dumps(directory)
    deaths = []
    orphans = set(made)
    for each in lives:
        snapshot = each.snapshot
        own = [entry for entry in made if _is_of(entry, each)]
        orphans -= set(own)
        if not _has_ended(each, lives) or not _is_since(each, since):
            continue
        paths = [entry.path for entry in own]
        deaths.append(_death(each, ending(snapshot, machine, lives), paths, limit))
    for entry in sorted(orphans)[-MAX_ORPHANS:]:
        try:
            each = life(read(entry.path))
        except RecordingError as error:
            unreadable.append(str(error))
            continue
        if _is_since(each, since):
            deaths.append(_death(each, ending_of_dump(each.snapshot), [entry.path], limit))
    deaths.sort(key=lambda death: death.last_seen)
    alive = sum(each.snapshot.state == "running" and not _has_ended(each, lives) for each in lives)
    shown = {death.snapshot.pid for death in deaths}
    groups = fleets(
        [each for each in lives if went_on_as(each, lives) is None],
        {death.snapshot.path: death.ending for death in deaths},
    )
    return Report(deaths, [fleet for fleet in groups if shown & set(fleet.pids)], alive, unreadable)


def _is_of(dump: Entry, each: Life) -> bool:
    """Whether a dump was made by (or of) this process. A killed process may live on a while after
    its last sign of life."""
    made = dump.start_ms / 1000
    if dump.pid != each.snapshot.pid or made < each.begin_seconds - 1:
        return False
    if each.snapshot.state == "running":
        return True
    return made <= each.last_seconds + (
        1 if each.snapshot.state == "exited" else DUMP_AFTER_SECONDS
    )


def _has_ended(each: Life, lives: list[Life]) -> bool:
    """A process that went over to another program has ended as the one that it was."""
    if each.snapshot.state == "running":
        return went_on_as(each, lives) is not None
    return each.snapshot.state != "empty"


def _is_since(each: Life, since: datetime | None) -> bool:
    return since is None or each.last_seconds >= since.timestamp()


def _read_all(directory: Path) -> tuple[list[Life], list[str]]:
    lives, unreadable = [], []
    for entry in recordings(directory)[-MAX_RECORDINGS:]:
        try:
            lives.append(life(read(entry.path)))
        except RecordingError as error:
            unreadable.append(str(error))
    return lives, unreadable


def _death(each: Life, end: Ending, own_dumps: list[Path], limit: int) -> Death:
    snapshot = each.snapshot
    lately = snapshot.live["time_ns"] > (snapshot.duration_seconds - CLIMB_SECONDS) * 1e9
    lines = snapshot.top(group="own_line", limit=limit)
    return Death(
        snapshot,
        end,
        usage(snapshot),
        datetime.fromtimestamp(min(each.last_seconds, _LAST_INSTANT), UTC),
        _without_none(snapshot.top(group="span", limit=limit + 1))[:limit],
        lines,
        snapshot.top(group="own_line", limit=limit, where=lately),
        _stack(snapshot, lines[0]) if lines else [],
        _running(snapshot, limit),
        _threads(snapshot),
        _jump(snapshot),
        _climb(snapshot),
        own_dumps,
    )


_LAST_INSTANT = 253_402_300_799.0
MAX_THREADS = 50
MAX_FRAMES = 20


def _without_none(rows: list[Row]) -> list[Row]:
    """Rows of spans, without what belongs to no span, unless there is nothing else."""
    return [row for row in rows if row.key != NO_SPAN] or rows


def _stack(snapshot: Snapshot, row: Row) -> list[str]:
    frames = snapshot.stack(row.site)[:MAX_FRAMES]
    return [frame.text for frame in frames]


def _running(snapshot: Snapshot, limit: int) -> list[Running]:
    spans, threads, phases = snapshot.spans, snapshot.threads, snapshot.phases
    open_spans = np.flatnonzero(spans["open"])
    order = open_spans[np.argsort(-spans["live_bytes"][open_spans], kind="stable")]
    running = []
    for index in order[:limit].tolist():
        span = spans[index]
        inside = threads[threads["span"] == index]
        names = [str(phases["name"][phase]) for phase in inside["phase"].tolist()]
        age = snapshot.duration_seconds - int(span["start_ns"]) / 1e9
        running.append(
            Running(
                str(span["name"]),
                str(span["attributes"]),
                str(span["thread"]),
                max(age, 0.0),
                int(span["live_bytes"]),
                sorted(set(names) - {str(span["name"]), ""}),
            )
        )
    return running


def _threads(snapshot: Snapshot) -> list[Thread]:
    spans, phases = snapshot.spans, snapshot.phases
    return [
        Thread(
            str(thread["name"]),
            int(thread["tid"]),
            str(spans["name"][thread["span"]]),
            str(phases["name"][thread["phase"]]),
            int(thread["bytes"]),
        )
        for thread in snapshot.threads[:MAX_THREADS]
    ]


def _jump(snapshot: Snapshot) -> Jump | None:
    """The span, phase or open span over which the live heap grew most."""
    end_ns = snapshot.duration_seconds * 1e9
    jumps = []
    records = snapshot.records
    if len(records):
        record = records[int(np.argmax(records["live_change_bytes"]))]
        seconds = max(int(record["time_ns"]) - int(record["start_ns"]), 0) / 1e9
        before = max(end_ns - int(record["time_ns"]), 0.0) / 1e9
        change = int(record["live_change_bytes"])
        jumps.append(Jump(str(record["kind"]), str(record["name"]), change, seconds, before))
    spans = snapshot.spans
    open_spans = spans[spans["open"]]
    if len(open_spans):
        span = open_spans[int(np.argmax(open_spans["live_bytes"]))]
        age = max(end_ns - int(span["start_ns"]), 0.0) / 1e9
        jumps.append(Jump("open span", str(span["name"]), int(span["live_bytes"]), age, 0.0))
    best = max(jumps, key=lambda jump: jump.change_bytes, default=None)
    return best if best is not None and best.change_bytes > 0 else None


def _climb(snapshot: Snapshot) -> list[Point]:
    """The ticks of the last minute, and what the header says last of all."""
    end_ns = snapshot.duration_seconds * 1e9
    timeline = snapshot.timeline
    ticks = timeline[timeline["time_ns"] > end_ns - CLIMB_SECONDS * 1e9]
    points = [
        Point(max(end_ns - time_ns, 0.0) / 1e9, rss, cgroup, live)
        for time_ns, rss, cgroup, live in ticks[
            ["time_ns", "rss_bytes", "cgroup_bytes", "live_bytes"]
        ].tolist()
    ]
    last_ns = snapshot.header["usage_ns"]
    if last_ns and (not len(ticks) or last_ns > ticks["time_ns"][-1]):
        before = max(end_ns - last_ns, 0.0) / 1e9
        points.append(Point(before, snapshot.rss_bytes, snapshot.cgroup_bytes, snapshot.live_bytes))
    return points
