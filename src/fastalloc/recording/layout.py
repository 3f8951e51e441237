"""The recording's layout as numpy sees it: a mirror of native/layout.h.

native/layout.h is the definition. Here are only its shapes (one dtype per struct); its numbers are in
numbers.py, and belong to it. A test compiles the header and compares every offset, size and
value with this file. What the fields mean is written there, and what a reader makes of them
in snapshot.py.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from fastalloc.recording.numbers import *  # noqa: F403  (whoever reads the layout needs its numbers)
from fastalloc.recording.numbers import ATTRIBUTES_BYTES, Loss, Region


def _struct(*fields: tuple[str, object] | tuple[str, object, int]) -> np.dtype[np.void]:
    """A dtype laid out as a C compiler lays out the struct."""
    return np.dtype(list(fields), align=True)


REGION: Final = _struct(
    ("offset", "<u8"),
    ("used", "<u8"),
    ("capacity", "<u4"),
    ("stride", "<u4"),
)

HELD: Final = _struct(
    ("live_bytes", "<u8"),
    ("live_count_q16", "<u8"),
    ("high_water_bytes", "<u8"),
    ("high_water_count_q16", "<u8"),
    ("peak", "<u4"),
    ("samples", "<u4"),
)

RESIDENT: Final = _struct(
    ("time_ns", "<u8"),
    ("anon_bytes", "<u8"),
    ("file_bytes", "<u8"),
    ("shmem_bytes", "<u8"),
    ("arena_bytes", "<u8"),
    ("arena_live_bytes", "<u8"),
    ("malloc_live_bytes", "<u8"),
    ("malloc_free_bytes", "<u8"),
    ("malloc_free_count", "<u8"),
    ("own_anon_bytes", "<u8"),
    ("own_file_bytes", "<u8"),
    ("own_shmem_bytes", "<u8"),
)

HEADER: Final = _struct(
    ("magic", "S8"),
    ("layout_version", "<u4"),
    ("header_bytes", "<u4"),
    ("file_bytes", "<u8"),
    ("sequence", "<u4"),
    ("control", "<u4"),
    ("pid", "<u4"),
    ("parent_pid", "<u4"),
    ("process_start_ticks", "<u8"),
    ("start_time_ns", "<u8"),
    ("start_monotonic_ns", "<u8"),
    ("updated_ns", "<u8"),
    ("stopped_ns", "<u8"),
    ("forked_ns", "<u8"),
    ("python_version", "<u4"),
    ("mode", "<u4"),
    ("state", "<u4"),
    ("free_design", "<u4"),
    ("max_frames", "<u4"),
    ("process_phase", "<u4"),
    ("interval_bytes", "<u8"),
    ("live_bytes", "<u8"),
    ("live_count_q16", "<u8"),
    ("live_samples", "<u8"),
    ("high_water_bytes", "<u8"),
    ("high_water_count_q16", "<u8"),
    ("high_water_ns", "<u8"),
    ("peak", "<u4"),
    ("at_peak", "<u4"),
    ("ended_count", "<u8"),
    ("ended_bytes", "<u8"),
    ("samples", "<u8"),
    ("freed", "<u8"),
    ("arena_bytes", "<u8"),
    ("next_span_id", "<u8"),
    ("rss_bytes", "<u8"),
    ("cgroup_bytes", "<u8"),
    ("limit_bytes", "<u8"),
    ("usage_ns", "<u8"),
    ("guard_state", "<u4"),
    ("guard_trips", "<u4"),
    ("guard_percent", "<u4"),
    ("summary_percent", "<u4"),
    ("guard_ns", "<u8"),
    ("guard_usage_bytes", "<u8"),
    ("guard_size", "<u8"),
    ("dump_requests", "<u4"),
    ("dumps", "<u4"),
    ("exit_kind", "<u4"),
    ("exit_name", "<u4"),
    ("oom_kills_at_start", "<u8"),
    ("own_cpu_ns", "<u8"),
    ("sweeps", "<u4"),
    ("sweeping", "<u4"),
    ("off", "<u4"),
    ("own_cpu_millionths", "<u4"),
    ("exit_ns", "<u8"),
    ("limit_usage_bytes", "<u8"),
    ("limit_index", "<u4"),
    ("resident_requests", "<u4"),
    ("pid_namespace", "<u8"),
    ("resident", RESIDENT),
    ("native", "<u4"),
    ("native_slots", "<u4"),
    ("native_reason", "<u4"),
    ("native_unused", "<u4"),
    ("losses", "<u8", len(Loss)),
    ("live_free", "<u4"),
    ("spans_free", "<u4"),
    ("regions", REGION, len(Region)),
)

THREAD: Final = _struct(
    ("left", "<i8"),
    ("count", "<u8"),
    ("issued", "<u8"),
    ("scope", "<u4"),
    ("generation", "<u4"),
    ("rng", "<u8"),
    ("interval", "<u8"),
    ("residual", "<i8"),
    ("counted_block", "<u8"),
    ("count_mark", "<u8"),
    ("bytes_mark", "<u8"),
    ("tid", "<u4"),
    ("name", "<u4"),
    ("span", "<u4"),
    ("phase", "<u4"),
    ("start_ns", "<u8"),
    ("outer_scope", "<u4"),
    ("scope_interval", "<u4"),
    ("seen_by_guard", "<u8"),
    ("stratum_rest", "<u8"),
)

FUNCTION: Final = _struct(
    ("name", "<u4"),
    ("file", "<u4"),
    ("first_line", "<i4"),
    ("line_table_hash", "<u4"),
)

NODE: Final = _struct(
    ("parent", "<u4"),
    ("function", "<u4"),
    ("line", "<i4"),
    ("lasti", "<i4"),
)

SITE: Final = _struct(
    ("node", "<u4"),
    ("domain", "<u4"),
    ("held", HELD),
    ("total_bytes", "<u8"),
    ("total_count_q16", "<u8"),
)

LIVE: Final = _struct(
    ("address", "<u8"),
    ("size", "<u8"),
    ("weight", "<u8"),
    ("time_ns", "<u8"),
    ("site", "<u4"),
    ("span", "<u4"),
    ("phase", "<u4"),
    ("tid", "<u4"),
    ("thread_name", "<u4"),
    ("domain", "<u4"),
    ("generation", "<u8"),
)

FREED: Final = _struct(
    ("time_ns", "<u8"),
    ("freed_ns", "<u8"),
    ("address", "<u8"),
    ("size", "<u8"),
    ("weight", "<u8"),
    ("site", "<u4"),
    ("tid", "<u4"),
    ("span_id", "<u8"),
    ("phase", "<u4"),
    ("thread_name", "<u4"),
)

SPAN: Final = _struct(
    ("id", "<u8"),
    ("parent_id", "<u8"),
    ("start_ns", "<u8"),
    ("end_ns", "<u8"),
    ("count", "<u8"),
    ("bytes", "<u8"),
    ("name", "<u4"),
    ("thread_name", "<u4"),
    ("pins", "<u4"),
    ("tid", "<u4"),
    ("held", HELD),
    ("peak_bytes", "<u8"),
    ("attributes", f"S{ATTRIBUTES_BYTES}"),
)

PHASE: Final = _struct(
    ("name", "<u4"),
    ("span_name", "<u4"),
    ("entered", "<u8"),
    ("count", "<u8"),
    ("bytes", "<u8"),
    ("held", HELD),
)

THREAD_NAME: Final = _struct(
    ("name", "<u4"),
    ("reserved", "<u4"),
    ("held", HELD),
)

RECORD: Final = _struct(
    ("sequence", "<u8"),
    ("time_ns", "<u8"),
    ("start_ns", "<u8"),
    ("span_id", "<u8"),
    ("count", "<u8"),
    ("bytes", "<u8"),
    ("live_change_bytes", "<i8"),
    ("live_bytes", "<u8"),
    ("rss_bytes", "<u8"),
    ("cgroup_bytes", "<u8"),
    ("kind", "<u4"),
    ("name", "<u4"),
    ("span_name", "<u4"),
    ("thread_name", "<u4"),
    ("tid", "<u4"),
    ("reserved", "<u4"),
)

TICK: Final = _struct(
    ("time_ns", "<u8"),
    ("rss_bytes", "<u8"),
    ("cgroup_bytes", "<u8"),
    ("live_bytes", "<u8"),
    ("count", "<u8"),
    ("bytes", "<u8"),
)

EVENT: Final = _struct(
    ("sequence", "<u8"),
    ("time_ns", "<u8"),
    ("a", "<u8"),
    ("b", "<u8"),
    ("kind", "<u4"),
    ("node", "<u4"),
    ("span", "<u4"),
    ("tid", "<u4"),
    ("span_id", "<u8"),
    ("rss_bytes", "<u8"),
)

BYTE: Final = np.dtype("u1")

ENTRY: Final[dict[Region, np.dtype[np.void] | np.dtype[np.uint8]]] = {
    Region.THREADS: THREAD,
    Region.OPTIONS: BYTE,
    Region.STRINGS: BYTE,
    Region.FUNCTIONS: FUNCTION,
    Region.NODES: NODE,
    Region.SITES: SITE,
    Region.LIVE: LIVE,
    Region.FREED: FREED,
    Region.SPANS: SPAN,
    Region.PHASES: PHASE,
    Region.THREAD_NAMES: THREAD_NAME,
    Region.RECORDS: RECORD,
    Region.TIMELINE: TICK,
    Region.TIMELINE_LONG: TICK,
    Region.EVENTS: EVENT,
}
"""What an entry of each region is."""

RINGS: Final = frozenset(
    {Region.FREED, Region.RECORDS, Region.TIMELINE, Region.TIMELINE_LONG, Region.EVENTS}
)
"""Regions whose `used` counts every entry ever written, the newest overwriting the oldest."""
