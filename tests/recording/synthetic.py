"""Recordings made in Python, for tests that need one without a compiled core.

    rec = SyntheticRecording(mode="light")
    site = rec.site([("load", "/app/orders.py", 10), ("main", "/app/main.py", 3)])  # leaf first
    span = rec.span("GET /orders/", start_ns=1_000_000)
    rec.live(size=100, weight=1000, site=site, span=span, phase=rec.phase("render", "GET /orders/"))
    path = rec.write(tmp_path / "fastalloc-4242-1700000000000.recording")

Every method that adds a table entry returns its index. The aggregates that the recorder keeps
(held, header totals, high-water marks by the lazy rule of layout.h) are kept here as well.
What has no method is set on `rec.header` or on the entries in `rec.tables` before `write`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastalloc.recording.layout import (
    BYTE,
    COUNT_SCALE,
    ENTRY,
    HEADER,
    LAYOUT_VERSION,
    MAGIC,
    PAGE_BYTES,
    RINGS,
    Domain,
    EventKind,
    Loss,
    Mode,
    RecordKind,
    Region,
    State,
)

SECOND = 1_000_000_000
Frame = tuple[str, str, int]


def minimal_state(**state: object) -> dict[str, object]:
    """The least that a state.json must have, and `state`."""
    process = {"pid": 1, "program": "app.py", "python": "3.11.7"}
    memory = dict.fromkeys(("limit_bytes", "rss_bytes", "cgroup_bytes", "live_bytes"), 0)
    return {
        **{"version": 1, "reason": "manual", "time": 1.0, "process": process},
        **{"memory": {**memory, "limit_source": "none"}},
        **state,
    }


class SyntheticRecording:
    """The recording of a process that has never been."""

    def __init__(
        self,
        *,
        mode: str = "light",
        state: str = "exited",
        pid: int = 4242,
        duration_ns: int = 60 * SECOND,
        capacity: Mapping[Region, int] | None = None,
        **header: int,
    ) -> None:
        """`capacity` fixes the entries of a region; `header` sets any of its scalar fields."""
        self.header: Any = np.zeros(1, HEADER)[0]
        self.tables: dict[Region, list[Any]] = {
            region: [] for region in Region if ENTRY[region] != BYTE
        }
        self._capacity = dict(capacity or {})
        self._strings = bytearray(8)
        self._options = b""
        self._interned: dict[object, int] = {}
        fields: dict[str, int | bytes] = {
            "magic": MAGIC,
            "layout_version": LAYOUT_VERSION,
            "header_bytes": HEADER.itemsize,
            "sequence": 2,
            "pid": pid,
            "parent_pid": 1,
            "process_start_ticks": 7,
            "start_time_ns": 1_700_000_000 * SECOND,
            "start_monotonic_ns": 1_000 * SECOND,
            "updated_ns": duration_ns,
            "stopped_ns": 0 if state == "running" else duration_ns,
            "python_version": 0x030B07F0,
            "mode": Mode[mode.upper()],
            "state": State[state.upper()],
            "max_frames": 64,
            "process_phase": 1,
            "interval_bytes": 512 * 1024,
            "next_span_id": 1,
            **header,
        }
        for name, value in fields.items():
            self.header[name] = value
        for region, rows in self.tables.items():
            if region not in RINGS:
                rows.append(np.zeros(1, ENTRY[region])[0])  # index 0: none
        self.phase("startup")

    # What a stack is made of

    def string(self, text: str) -> int:
        """The id of a string."""
        if not text:
            return 0
        known = self._interned.get(text)
        if known is None:
            data = text.encode()
            known = self._interned[text] = len(self._strings)
            self._strings += len(data).to_bytes(2, "little") + data + b"\0"
        return known

    def function(self, name: str, file: str, first_line: int = 1) -> int:
        """The index of a function."""
        return self._intern(
            Region.FUNCTIONS, name=self.string(name), file=self.string(file), first_line=first_line
        )

    def node(self, parent: int, function: int, line: int, lasti: int = 0) -> int:
        """The index of a node under `parent` (0: root-most)."""
        return self._intern(Region.NODES, parent=parent, function=function, line=line, lasti=lasti)

    def site(
        self, stack: Sequence[Frame], *, domain: str = "OBJ", lasti: int = 0, cut: bool = False
    ) -> int:
        """The site of a stack, leaf first. `cut`: it went on, but was cut here."""
        node = self.node(0, 0, 0) if cut else 0
        for function, file, line in reversed(stack):
            node = self.node(node, self.function(function, file), line, lasti)
        return self._intern(Region.SITES, node=node, domain=Domain[domain])

    # What a sample belongs to

    def phase(self, name: str, span_name: str = "", **fields: int) -> int:
        """The phase `name` of the spans named `span_name` ("": of the process)."""
        index = self._intern(
            Region.PHASES, name=self.string(name), span_name=self.string(span_name)
        )
        self._set(self.tables[Region.PHASES][index], fields)
        return index

    def span(
        self,
        name: str,
        *,
        start_ns: int = 1 * SECOND,
        end_ns: int = 0,
        parent_id: int = 0,
        attributes: str = "",
        count: int = 0,
        bytes: int = 0,
        thread: str = "MainThread",
        tid: int = 4242,
    ) -> int:
        """A new entry of the span table (not its id: `span_id(index)`)."""
        span_id = int(self.header["next_span_id"])
        self.header["next_span_id"] = span_id + 1
        return self._append(
            Region.SPANS,
            id=span_id,
            parent_id=parent_id,
            start_ns=start_ns,
            end_ns=end_ns,
            count=count,
            bytes=bytes,
            name=self.string(name),
            thread_name=self.thread_name(thread),
            pins=0 if end_ns else 1,
            tid=tid,
            attributes=attributes.encode()[:127],
        )

    def span_id(self, span: int) -> int:
        """The id of the span at an index of the span table."""
        return int(self.tables[Region.SPANS][span]["id"])

    def thread_name(self, name: str) -> int:
        """The index of a thread's name."""
        return self._intern(Region.THREAD_NAMES, name=self.string(name)) if name else 0

    def thread(
        self,
        name: str = "MainThread",
        *,
        tid: int = 4242,
        count: int = 0,
        bytes: int = 0,
        count_mark: int = 0,
        bytes_mark: int = 0,
        span: int = 0,
        phase: int = 1,
        start_ns: int = 1,
    ) -> int:
        """A running thread that has allocated `count` blocks, `bytes` in all."""
        left = 100_000
        return self._append(
            Region.THREADS,
            left=left,
            issued=bytes + left,
            count=count,
            count_mark=count_mark,
            bytes_mark=bytes_mark,
            tid=tid,
            name=self.thread_name(name),
            span=span,
            phase=phase,
            start_ns=start_ns,
        )

    # Samples

    def live(
        self,
        *,
        size: int,
        weight: int | None = None,
        site: int = 0,
        span: int = 0,
        phase: int = 1,
        thread: str = "MainThread",
        tid: int = 4242,
        time_ns: int = 1 * SECOND,
        domain: str | None = None,
        address: int | None = None,
    ) -> int:
        """A live sample; its weight is its size unless given, its domain its site's."""
        table = self.tables[Region.LIVE]
        if domain is None:
            domain = Domain(self.tables[Region.SITES][site]["domain"]).name if site else "OBJ"
        index = self._append(
            Region.LIVE,
            address=address or 0x7F00_0000_0000 + 0x1000 * len(table),
            size=size,
            weight=size if weight is None else weight,
            time_ns=time_ns,
            site=site,
            span=span,
            phase=phase,
            tid=tid,
            thread_name=self.thread_name(thread),
            domain=Domain[domain],
        )
        row = table[index]
        self._hold(row, +1)
        entry = self.tables[Region.SITES][site]
        entry["total_bytes"] += row["weight"]
        entry["total_count_q16"] += _count_q16(row)
        self.header["samples"] += 1
        return index

    def free(self, sample: int) -> None:
        """Free a live sample: its slot is empty, the aggregates follow."""
        row = self.tables[Region.LIVE][sample]
        self._hold(row, -1)
        row["address"] = 0
        row["site"] = self.header["live_free"]
        self.header["live_free"] = sample
        self.header["freed"] += 1

    def freed(
        self,
        *,
        size: int,
        weight: int | None = None,
        site: int = 0,
        span_id: int = 0,
        phase: int = 1,
        thread: str = "MainThread",
        tid: int = 4242,
        time_ns: int = 1 * SECOND,
        freed_ns: int = 2 * SECOND,
        address: int = 0x7E00_0000_0000,
    ) -> None:
        """A sample in the ring of the freed."""
        self._append(
            Region.FREED,
            time_ns=time_ns,
            freed_ns=freed_ns,
            address=address,
            size=size,
            weight=size if weight is None else weight,
            site=site,
            tid=tid,
            span_id=span_id,
            phase=phase,
            thread_name=self.thread_name(thread),
        )
        self.header["samples"] += 1
        self.header["freed"] += 1

    # What happened

    def record(
        self,
        kind: str,
        name: str,
        *,
        time_ns: int,
        start_ns: int = 0,
        span_name: str = "",
        thread: str = "MainThread",
        tid: int = 4242,
        **fields: int,
    ) -> None:
        """A finished "span" or "phase", or a "checkpoint"; `fields` as in fa_record."""
        self._append(
            Region.RECORDS,
            sequence=len(self.tables[Region.RECORDS]) + 1,
            time_ns=time_ns,
            start_ns=start_ns,
            kind=RecordKind[kind.upper()],
            name=self.string(name),
            span_name=self.string(span_name),
            thread_name=self.thread_name(thread),
            tid=tid,
            **fields,
        )

    def checkpoint(self, name: str, *, time_ns: int, **fields: Any) -> None:
        """A checkpoint."""
        self.record("checkpoint", name, time_ns=time_ns, **fields)

    def tick(self, *, time_ns: int, long: bool = False, **fields: int) -> None:
        """A tick of the timeline (`long`: of the one by minutes); `fields` as in fa_tick."""
        self._append(Region.TIMELINE_LONG if long else Region.TIMELINE, time_ns=time_ns, **fields)

    def event(self, kind: str, *, time_ns: int, span_name: str = "", **fields: int) -> None:
        """An event; `fields` as in fa_event."""
        self._append(
            Region.EVENTS,
            sequence=len(self.tables[Region.EVENTS]) + 1,
            time_ns=time_ns,
            kind=EventKind[kind.upper()],
            span=self.string(span_name),
            **fields,
        )

    def lose(self, loss: str, count: int = 1) -> None:
        """Count a loss."""
        self.header["losses"][Loss[loss.upper()]] += count

    def options(self, options: Mapping[str, object]) -> None:
        """Set the options in force."""
        self._options = json.dumps(dict(options)).encode()

    # The file

    def to_bytes(self) -> bytes:
        """The whole recording."""
        offset = PAGE_BYTES
        parts: list[tuple[int, bytes]] = []
        for region in Region:
            data, used, capacity = self._region(region)
            stride = ENTRY[region].itemsize
            entry = self.header["regions"][region]
            self._set(entry, {"offset": offset, "used": used, "stride": stride})
            entry["capacity"] = capacity
            parts.append((offset, data))
            offset += -(-capacity * stride // PAGE_BYTES) * PAGE_BYTES
        self.header["file_bytes"] = offset
        image = bytearray(offset)
        image[: HEADER.itemsize] = self.header.tobytes()
        for start, data in parts:
            image[start : start + len(data)] = data
        return bytes(image)

    def write(self, path: str | Path) -> Path:
        """Write the recording to a file of mode 0600; returns its path."""
        path = Path(path)
        path.write_bytes(self.to_bytes())
        path.chmod(0o600)
        return path

    def write_dump(self, folder: str | Path, **state: object) -> Path:
        """Write a dump: a folder with the recording and `state.json`; returns its path."""
        folder = Path(folder)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.write(folder / "recording.fastalloc")
        (folder / "state.json").write_text(json.dumps(minimal_state(**state)))
        return folder

    def _region(self, region: Region) -> tuple[bytes, int, int]:
        """The bytes, `used` and capacity of a region."""
        if region is Region.OPTIONS or region is Region.STRINGS:
            data = self._options if region is Region.OPTIONS else bytes(self._strings)
            return data, len(data), self._capacity.get(region, max(len(data), 64))
        rows = self.tables[region]
        capacity = self._capacity.get(region, max(len(rows), 8))
        used = len(rows)
        if region in RINGS and used > capacity:
            newest = used % capacity  # where the oldest of the last `capacity` entries lies
            rows = rows[used - newest :] + rows[used - capacity : used - newest]
        if len(rows) > capacity:
            raise ValueError(f"{len(rows)} entries do not fit into {region.name}")
        return b"".join(row.tobytes() for row in rows), used, capacity

    # Tables

    def _append(self, region: Region, **fields: Any) -> int:
        row = np.zeros(1, ENTRY[region])[0]
        self._set(row, fields)
        self.tables[region].append(row)
        return len(self.tables[region]) - 1

    def _intern(self, region: Region, **fields: Any) -> int:
        key = (region, *fields.values())
        if key not in self._interned:
            self._interned[key] = self._append(region, **fields)
        return self._interned[key]

    @staticmethod
    def _set(row: Any, fields: Mapping[str, Any]) -> None:
        for name, value in fields.items():
            row[name] = value

    # Aggregates

    def _hold(self, row: Any, sign: int) -> None:
        """Add (+1) or remove (-1) a sample to all that hold it. Arenas count for sites only."""
        header = self.header
        holders = [self.tables[Region.SITES][row["site"]]]
        weight, count = sign * int(row["weight"]), sign * _count_q16(row)
        if row["domain"] != Domain.ARENA:
            holders += [
                self.tables[Region.SPANS][row["span"]],
                self.tables[Region.PHASES][row["phase"]],
                self.tables[Region.THREAD_NAMES][row["thread_name"]],
            ]
            if sign < 0 and header["at_peak"]:  # a high-water mark is left behind
                header["at_peak"] = 0
                header["peak"] += 1
        for holder in holders:
            held = holder["held"]
            if held["peak"] != header["peak"]:
                held["high_water_bytes"] = held["live_bytes"]
                held["high_water_count_q16"] = held["live_count_q16"]
                held["peak"] = header["peak"]
            _add(held, "live_bytes", weight)
            _add(held, "live_count_q16", count)
            _add(held, "samples", sign)
        if row["domain"] == Domain.ARENA:
            return
        _add(header, "live_bytes", weight)
        _add(header, "live_count_q16", count)
        _add(header, "live_samples", sign)
        if header["live_bytes"] > header["high_water_bytes"]:
            header["at_peak"] = 1
            header["high_water_bytes"] = header["live_bytes"]
            header["high_water_count_q16"] = header["live_count_q16"]
            header["high_water_ns"] = row["time_ns"]


def _count_q16(row: Any) -> int:
    size, weight = int(row["size"]), int(row["weight"])
    return weight * COUNT_SCALE // size if size else COUNT_SCALE


def _add(row: Any, field: str, change: int) -> None:
    row[field] = int(row[field]) + change
