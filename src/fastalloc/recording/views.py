"""The tables as Snapshot gives them: strings resolved, units plain, one dtype each.

Bytes and nanoseconds are int64, estimated counts float64 (allocations), indices int64. A value
of the file beyond int64 becomes the largest int64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from fastalloc.recording.layout import COUNT_SCALE, EventKind, RecordKind, Region

if TYPE_CHECKING:
    from fastalloc.recording.strings import Strings
    from fastalloc.recording.tables import Tables

Table = npt.NDArray[np.void]

LARGEST: Final = np.iinfo(np.int64).max


def _dtype(**fields: str) -> np.dtype[np.void]:
    """A dtype from names of fields, grouped by type: the types are the keywords."""
    types = {"text": "O", "integer": "<i8", "number": "<f8", "address": "<u8", "flag": "?"}
    return np.dtype(
        [(name, types[kind]) for kind, names in fields.items() for name in names.split()]
    )


LIVE: Final = _dtype(
    address="address",
    integer="size weight time_ns site span span_id phase tid thread domain",
    number="count age_seconds",
    text="thread_name",
)
SITES: Final = _dtype(
    integer="node domain live_bytes high_water_bytes total_bytes samples",
    number="live_count high_water_count total_count",
)
SPANS: Final = _dtype(
    integer="id parent_id start_ns end_ns count bytes live_bytes high_water_bytes samples tid",
    number="live_count high_water_count",
    text="name attributes thread",
    flag="open",
)
PHASES: Final = _dtype(
    integer="entered count bytes live_bytes high_water_bytes samples",
    number="live_count high_water_count",
    text="name span_name",
)
THREAD_NAMES: Final = _dtype(
    integer="live_bytes high_water_bytes samples",
    number="live_count high_water_count",
    text="name",
)
THREADS: Final = _dtype(integer="tid count bytes span phase start_ns", text="name")
FREED: Final = _dtype(
    address="address",
    integer="size weight time_ns freed_ns site span_id phase tid",
    number="count",
    text="thread_name",
)
RECORDS: Final = _dtype(
    integer=(
        "sequence time_ns start_ns span_id count bytes live_change_bytes live_bytes rss_bytes "
        "cgroup_bytes tid"
    ),
    text="kind name span_name thread",
)
TIMELINE: Final = _dtype(integer="time_ns rss_bytes cgroup_bytes live_bytes count bytes")
EVENTS: Final = _dtype(
    integer="sequence time_ns a b node tid span_id rss_bytes count", text="kind span_name"
)


class Views:
    """Makes the views of one copy. Cost: a few passes over the table asked for."""

    def __init__(self, tables: Tables, strings: Strings, now_ns: int) -> None:
        self._tables = tables
        self._strings = strings
        self._now_ns = now_ns

    def live(self) -> Table:
        raw = self._tables[Region.LIVE]
        raw = raw[raw["address"] != 0]
        view = _copied(raw, LIVE)
        view["count"] = count_of(raw)
        view["age_seconds"] = np.maximum(self._now_ns / 1e9 - view["time_ns"] / 1e9, 0.0)
        view["thread"] = raw["thread_name"]
        view["span_id"] = signed(self._tables[Region.SPANS]["id"])[raw["span"]]
        view["thread_name"] = self._thread_names()[raw["thread_name"]]
        return view

    def sites(self) -> Table:
        raw = self._tables[Region.SITES]
        view = _copied(raw, SITES)
        view["total_count"] = raw["total_count_q16"] / COUNT_SCALE
        return self._held(view, raw)

    def spans(self) -> Table:
        raw = self._tables[Region.SPANS]
        view = _copied(raw, SPANS)
        view["name"] = self._strings.resolve(raw["name"])
        view["attributes"] = [_text(attributes) for attributes in raw["attributes"].tolist()]
        view["thread"] = self._thread_names()[raw["thread_name"]]
        view["open"] = (raw["id"] != 0) & (raw["end_ns"] == 0)
        self._count_running(view, "span")
        return self._held(view, raw)

    def phases(self) -> Table:
        raw = self._tables[Region.PHASES]
        view = _copied(raw, PHASES)
        view["name"] = self._strings.resolve(raw["name"])
        view["span_name"] = self._strings.resolve(raw["span_name"])
        self._count_running(view, "phase")
        return self._held(view, raw)

    def thread_names(self) -> Table:
        raw = self._tables[Region.THREAD_NAMES]
        view = _copied(raw, THREAD_NAMES)
        view["name"] = self._thread_names()
        return self._held(view, raw)

    def threads(self) -> Table:
        raw = self._running()
        view = _copied(raw, THREADS)
        view["bytes"] = allocated_bytes(raw)
        view["name"] = self._thread_names()[raw["name"]]
        return view

    def freed(self) -> Table:
        raw = self._tables[Region.FREED]
        view = _copied(raw, FREED)
        view["count"] = count_of(raw)
        view["thread_name"] = self._thread_names()[raw["thread_name"]]
        return view

    def records(self) -> Table:
        raw = self._tables[Region.RECORDS]
        raw = raw[raw["kind"] != 0]
        view = _copied(raw, RECORDS)
        names = np.array(["", *(kind.name.lower() for kind in RecordKind)], object)
        view["kind"] = names[raw["kind"]]
        view["name"] = self._strings.resolve(raw["name"])
        view["span_name"] = self._strings.resolve(raw["span_name"])
        view["thread"] = self._thread_names()[raw["thread_name"]]
        return view

    def timeline(self) -> Table:
        """The ticks by minutes up to where those by seconds begin, then those."""
        fine = self._tables[Region.TIMELINE]
        coarse = self._tables[Region.TIMELINE_LONG]
        if len(fine):
            coarse = coarse[coarse["time_ns"] < fine["time_ns"][0]]
        return _copied(np.concatenate([coarse, fine]), TIMELINE)

    def events(self) -> Table:
        raw = self._tables[Region.EVENTS]
        raw = raw[raw["kind"] != 0]
        view = _copied(raw, EVENTS)
        names = np.array(["", *(kind.name.lower() for kind in EventKind)], object)
        view["kind"] = names[raw["kind"]]
        view["span_name"] = self._strings.resolve(raw["span"])
        failed = raw["kind"] == EventKind.FAILED_ALLOCATION
        view["count"] = np.where(failed, (raw["b"] >> 32) + 1, 1)
        view["b"][failed] &= 0xFFFF_FFFF
        return view[np.argsort(view["time_ns"], kind="stable")]  # one that was repeated is the last

    def totals(self) -> tuple[int, int]:
        """The exact count and bytes of all allocations of the process."""
        header, running = self._tables.header, self._running()
        return (
            int(header["ended_count"]) + int(running["count"].sum()),
            int(header["ended_bytes"]) + int(allocated_bytes(running).sum()),
        )

    def _running(self) -> npt.NDArray[Any]:
        threads = self._tables[Region.THREADS][1:]
        running: npt.NDArray[Any] = threads[threads["start_ns"] != 0]
        return running

    def _count_running(self, view: Table, scope: str) -> None:
        """Add what running threads have allocated in their present span or phase so far."""
        running = self._running()
        np.add.at(view["count"], running[scope], _since(running["count"], running["count_mark"]))
        so_far = running["issued"] - running["left"].view(np.uint64)
        np.add.at(view["bytes"], running[scope], _since(so_far, running["bytes_mark"]))

    def _thread_names(self) -> npt.NDArray[np.object_]:
        return self._strings.resolve(self._tables[Region.THREAD_NAMES]["name"])

    def _held(self, view: Table, raw: npt.NDArray[Any]) -> Table:
        """Fill in what is held, by the lazy rule of fa_held in layout.h."""
        held, header = raw["held"], self._tables.header
        is_live = (held["peak"] != header["peak"]) | (header["at_peak"] != 0)
        high_water_count = np.where(is_live, held["live_count_q16"], held["high_water_count_q16"])
        view["live_bytes"] = signed(held["live_bytes"])
        view["live_count"] = held["live_count_q16"] / COUNT_SCALE
        view["high_water_bytes"] = signed(
            np.where(is_live, held["live_bytes"], held["high_water_bytes"])
        )
        view["high_water_count"] = high_water_count / COUNT_SCALE
        view["samples"] = held["samples"]
        return view


def signed(values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Unsigned values as int64; those beyond it become the largest."""
    if values.dtype == np.dtype("<u8"):
        values = np.minimum(values, np.uint64(LARGEST))
    return values.astype(np.int64)


def count_of(samples: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """How many allocations each sample stands for: weight / size, and 1 for an empty block."""
    size = np.maximum(samples["size"], 1).astype(np.float64)
    return np.where(samples["size"] == 0, 1.0, samples["weight"] / size)


def allocated_bytes(threads: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """What each thread has allocated: issued - left, in C's arithmetic."""
    so_far = threads["issued"] - threads["left"].view(np.uint64)
    return np.maximum(so_far.view(np.int64), 0)


def _since(now: npt.NDArray[np.uint64], mark: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """now - mark; a little below 0 if the thread wrote between the two."""
    return (now - mark).view(np.int64)


def _copied(raw: npt.NDArray[Any], dtype: np.dtype[np.void]) -> Table:
    """A table of `dtype` with the plain fields that `raw` has as well."""
    view = np.zeros(len(raw), dtype)
    for name in dtype.names or ():
        if name in (raw.dtype.names or ()) and dtype[name] != np.dtype(object):
            view[name] = raw[name] if name == "address" else signed(raw[name])
    return view


def _text(attributes: bytes) -> str:
    return attributes.split(b"\0", 1)[0].decode("utf-8", "replace")
