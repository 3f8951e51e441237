"""Snapshot: a consistent copy of a recording, as numpy arrays."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fastalloc.recording import holders
from fastalloc.recording.errors import RecordingError
from fastalloc.recording.layout import COUNT_SCALE, HEADER, Exit, Loss, Mode, Region, State
from fastalloc.recording.resident import Resident
from fastalloc.recording.resident import resident as split_resident
from fastalloc.recording.stacks import Frame, Stacks
from fastalloc.recording.views import Table, Views

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from fastalloc.recording.holders import Row
    from fastalloc.recording.strings import Strings
    from fastalloc.recording.tables import Tables


class Snapshot:
    """What a recording held at one instant. `fastalloc.read(path)` makes it.

    Times ending in `_ns` are nanoseconds since `start_time`. Estimated values (all of the live
    heap) come from samples; `total_count`, `total_bytes` and the `count` and `bytes` of spans,
    phases, threads, records and ticks are exact. Arrays are made when first asked for.

    Where a table says *index*, entry 0 stands for "none" and holds what belongs to none:
    `snapshot.phases[snapshot.live["phase"]]` is the phase of each live sample.
    """

    path: Path
    """What was read: the recording, or the dump's folder."""
    pid: int
    parent_pid: int
    mode: str
    """disabled, standby, light, aggressive or targeted."""
    state: str
    """running, stopped (by `stop()`), exited (or gone after it had said that it ends), killed (it
    says running, but its process is gone), or empty (it was never started). For a dump: as it was when the dump was made."""
    interval_bytes: int
    """Mean bytes between samples, now. Each sample carries its own weight."""
    start_time: datetime
    """UTC."""
    duration_seconds: float
    """From the start until now, the stop, or for a killed process the last write."""
    consistent: bool
    """False: the process wrote while this was copied, or died while writing; numbers may
    disagree by the few samples that were being written."""
    repaired: bool
    """True: the process died while writing; totals were worked out again from the samples."""
    losses: dict[str, int]
    """What could not be recorded, by reason (`layout.Loss`, in lower case), zeros included."""
    python_version: str
    """Such as "3.11.7"."""
    exit_kind: str
    """How the process said that it ends: unknown (it said nothing), clean, exception, signal."""
    exit_name: str
    """The exception's class, or the signal's name; "" if there is none."""
    native: bool
    """Whether malloc and mmap are hooked too, or were at the end; `native_reason` why not, though the options
    ask for it, or what is amiss, though they are; "" if there is nothing to say."""
    native_reason: str
    header: dict[str, int]
    """All scalar fields of the header, as written (layout.h)."""
    dump: dict[str, Any]
    """`state.json` of a dump; empty for a recording. {"error": ...} if it could not be read."""

    live_bytes: int
    """The live heap, estimated; without arenas."""
    live_count: float
    """Live blocks, estimated."""
    high_water_bytes: int
    """The largest that `live_bytes` has been."""
    rss_bytes: int
    """As last read by the process (`header["usage_ns"]`); 0: not known."""
    cgroup_bytes: int
    """Usage of the memory cgroup, likewise."""
    limit_bytes: int
    """The memory limit in force; 0: none known."""
    total_count: int
    """Allocations since the start, exact."""
    total_bytes: int
    """Bytes allocated since the start, exact."""

    def __init__(
        self,
        path: Path,
        tables: Tables,
        strings: Strings,
        *,
        repaired: bool = False,
        dump: dict[str, Any] | None = None,
    ) -> None:
        """From checked tables: use `read`."""
        header = tables.header
        self.path = path
        self.header = {name: int(header[name]) for name in _SCALARS}
        self.dump = dump or {}
        self.consistent = tables.consistent
        self.repaired = repaired
        self.pid = self.header["pid"]
        self.parent_pid = self.header["parent_pid"]
        self.mode = Mode(self.header["mode"]).name.lower()
        self.state = _state(self.header, tables.alive, dump)
        self.exit_kind = Exit(self.header["exit_kind"]).name.lower()
        self.exit_name = strings[self.header["exit_name"]]
        self.native = self.header["native"] != 0
        self.native_reason = strings[self.header["native_reason"]]
        self.interval_bytes = self.header["interval_bytes"]
        self.start_time = datetime.fromtimestamp(0, UTC) + timedelta(
            microseconds=self.header["start_time_ns"] // 1000
        )
        now_ns = _now_ns(self.header, tables.alive)
        self.duration_seconds = now_ns / 1e9
        self.losses = {
            loss.name.lower(): count
            for loss, count in zip(Loss, header["losses"].tolist(), strict=True)
        }
        version = self.header["python_version"]
        self.python_version = f"{version >> 24}.{version >> 16 & 255}.{version >> 8 & 255}"
        self.live_bytes = self.header["live_bytes"]
        self.live_count = self.header["live_count_q16"] / COUNT_SCALE
        self.high_water_bytes = self.header["high_water_bytes"]
        self.rss_bytes = self.header["rss_bytes"]
        self.cgroup_bytes = self.header["cgroup_bytes"]
        self.limit_bytes = self.header["limit_bytes"]
        self._tables = tables
        self._strings = strings
        self._views = Views(tables, strings, now_ns)
        self.total_count, self.total_bytes = self._views.totals()

    # Arrays

    @cached_property
    def live(self) -> Table:
        """The live heap: one row per live sample, shape (samples,).

        address (uint64); size, weight (bytes); count (float64: the allocations it stands for);
        time_ns, age_seconds (float64); site, span, phase, thread (indices, the last of
        `thread_names`); span_id; tid; thread_name (str); domain (`layout.Domain`). Samples of
        domain ARENA (in standby mode: arenas that the object allocator mapped) are no part of
        `live_bytes`.
        """
        return self._views.live()

    @cached_property
    def sites(self) -> Table:
        """The sites, by index, shape (sites,).

        node (index); domain (`layout.Domain`); live_bytes, live_count, high_water_bytes,
        high_water_count (float64 counts; estimated, the latter pair at the process's high-water
        mark); total_bytes, total_count (ever allocated here, estimated); samples (live).
        """
        return self._views.sites()

    @cached_property
    def spans(self) -> Table:
        """Open spans and finished ones that still hold memory, by index, shape (entries,).

        id (0: a free entry), parent_id; start_ns, end_ns (0: open); count, bytes (exact, its own
        steps in whatever thread); live_bytes, live_count, high_water_bytes, high_water_count,
        samples; tid; name, attributes, thread (str); open (bool).
        """
        return self._views.spans()

    @cached_property
    def phases(self) -> Table:
        """Totals per pair of span name and phase name, by index, shape (phases,).

        entered; count, bytes (exact; their sums over all phases are `total_count` and
        `total_bytes`); live_bytes, live_count, high_water_bytes, high_water_count, samples;
        name, span_name (str; "": of the process; equal to name: the span outside its phases).
        """
        return self._views.phases()

    @cached_property
    def threads(self) -> Table:
        """The running threads, shape (threads,).

        tid; count, bytes (exact); span, phase (indices of what it is in); start_ns; name (str).
        """
        return self._views.threads()

    @cached_property
    def thread_names(self) -> Table:
        """What threads hold, running or ended, by their name, by index, shape (names,).

        live_bytes, live_count, high_water_bytes, high_water_count, samples; name (str).
        """
        return self._views.thread_names()

    @cached_property
    def freed(self) -> Table:
        """The samples freed last, in the order of their frees, shape (samples,).

        Fields as in `live`, without span, age_seconds and domain (ask its site's); freed_ns.
        """
        return self._views.freed()

    @cached_property
    def _all_records(self) -> Table:
        return self._views.records()

    @cached_property
    def records(self) -> Table:
        """The spans and phases finished last, the newest last, shape (records,).

        kind (str: "span", "phase", "checkpoint"); name, span_name, thread (str); span_id (0:
        outside all spans); start_ns, time_ns (its end); count, bytes (exact, with all nested in
        it); live_change_bytes (of the process's live heap meanwhile, estimated); live_bytes,
        rss_bytes, cgroup_bytes (at its end); tid; sequence (1, 2, 3... in this process).
        """
        records: Table = self._all_records[self._all_records["kind"] != "checkpoint"]
        return records

    @cached_property
    def checkpoints(self) -> Table:
        """The checkpoints passed last, the newest last. Fields as in `records`; time_ns is the
        instant, start_ns, count and bytes are those of the span so far."""
        checkpoints: Table = self._all_records[self._all_records["kind"] == "checkpoint"]
        return checkpoints

    @cached_property
    def timeline(self) -> Table:
        """The process over time, the newest last: at most a row a minute, and a second lately.

        time_ns; rss_bytes, cgroup_bytes; live_bytes (estimated); count, bytes (exact: all
        allocations so far). Shape (ticks,).
        """
        return self._views.timeline()

    @cached_property
    def events(self) -> Table:
        """What happened to the recorder, the newest last, shape (events,).

        kind (str: `layout.EventKind` in lower case); time_ns; a, b (their meaning depends on the
        kind: layout.h); node (`stack_of_node`); span_id; span_name (str); tid; rss_bytes; count:
        how often it happened (failed allocations at one stack are one event, with the largest size).
        """
        return self._views.events()

    @cached_property
    def resident(self) -> Resident:
        """What resident memory consists of, as the process last told; `resident.Resident` says which
        parts there are. It tells when asked: by `fastalloc.snapshot()`, a dump, or `fastalloc info`."""
        return split_resident(self, self._tables.header["resident"])

    # Strings and stacks

    @cached_property
    def options(self) -> dict[str, Any]:
        """The options in force; empty if they were not written."""
        try:
            options = json.loads(self._tables[Region.OPTIONS].tobytes())
        except (ValueError, RecursionError):
            return {}
        return options if isinstance(options, dict) else {}

    @cached_property
    def stacks(self) -> Stacks:
        """The tree of stacks: what `stack` looks into."""
        return Stacks(self._tables[Region.NODES], self._tables[Region.FUNCTIONS], self._strings)

    def string(self, string_id: int) -> str:
        """The string of an id that some table of the file names. RecordingError if it is none."""
        if string_id not in self._strings:
            raise RecordingError(
                f"{self.path}: has no string {string_id}; take ids from its tables"
            )
        return self._strings[string_id]

    def stack(self, site: int) -> list[Frame]:
        """The stack of a site, leaf first; empty if its samples have no Python stack.

        Raises IndexError if there is no such site.
        """
        return self.stacks.stack(int(self._tables[Region.SITES]["node"][site]))

    def stack_of_node(self, node: int) -> list[Frame]:
        """The stack of a node (as an event names it), leaf first; empty for node 0."""
        if not 0 <= node < len(self._tables[Region.NODES]):
            raise IndexError(f"there is no node {node}")
        return self.stacks.stack(node)

    # Answers

    def top(
        self,
        by: str = "live_bytes",
        group: str = "line",
        limit: int | None = 20,
        where: npt.NDArray[np.bool_] | None = None,
    ) -> list[Row]:
        """The biggest holders of memory, the biggest first.

        `group`: site, line, own_line, function, native_function, span, phase, thread, module or domain (`holders.GROUPS`
        says what the rows' keys are). `by`: any of a row's numbers. `limit`: rows at most; None
        for all. `where`: only these samples, a mask over `live`, as in
        `top(where=snapshot.live["span_id"] == 7)`. Raises ValueError for other names. Cost: some
        vectorised passes over the live samples. `holders.Row` says what a row has.
        """
        return holders.top(self, by, group, limit, where)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON: scalars, and tables as lists of dicts.

        Samples are left out: they are many, and `top` sums them. So are entries that stand for
        "none" and hold nothing.
        """
        scalars = {name: getattr(self, name) for name in _IN_DICT}
        tables = {name: _rows(getattr(self, name)) for name in _TABLES_IN_DICT}
        tables["spans"] = [span for span in tables["spans"] if span["id"]]
        tables["phases"] = [
            phase
            for phase in tables["phases"]
            if phase["name"] or phase["count"] or phase["samples"]
        ]
        return {
            **scalars,
            "path": str(self.path),
            "start_time": self.start_time.isoformat(),
            "losses": self.losses,
            "options": self.options,
            "header": self.header,
            "resident": self.resident._asdict(),
            **tables,
        }


_SCALARS = [
    name
    for name in HEADER.names or ()
    if HEADER[name].kind in "iu"  # not the magic, nor the arrays
]
_IN_DICT = (
    *("pid", "parent_pid", "mode", "state", "interval_bytes", "duration_seconds"),
    *("native", "native_reason", "consistent", "repaired"),
    *("python_version", "exit_kind", "exit_name"),
    *("live_bytes", "live_count", "high_water_bytes"),
    *("rss_bytes", "cgroup_bytes", "limit_bytes", "total_count", "total_bytes"),
)
_TABLES_IN_DICT = ("spans", "phases", "threads", "records", "checkpoints", "timeline", "events")


def _rows(table: np.ndarray[Any, Any]) -> list[dict[str, Any]]:
    names = table.dtype.names or ()
    return [dict(zip(names, row, strict=True)) for row in table.tolist()]


def _state(header: dict[str, int], alive: bool, dump: dict[str, Any] | None) -> str:
    if header["state"] != State.RUNNING:
        return State(header["state"]).name.lower()
    if dump is not None:
        return "killed" if dump.get("state") == "killed" else "running"
    if alive:
        return "running"
    return "exited" if header["exit_kind"] else "killed"


def _now_ns(header: dict[str, int], alive: bool) -> int:
    """The instant that the copy shows, in nanoseconds since the start."""
    if alive:
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) - header["start_monotonic_ns"]
        return max(now, header["updated_ns"], 0)
    return max(header["stopped_ns"], header["updated_ns"])
