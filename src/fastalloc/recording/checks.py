"""Checks of what the tables say: every reference leads somewhere, every number means something.

In a consistent copy a wrong reference is damage: RecordingError. In one taken while the process
wrote, or died writing, the table it leads into may be older than the reference: it becomes 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fastalloc.recording.layout import (
    RINGS,
    Domain,
    EventKind,
    Exit,
    Mode,
    RecordKind,
    Region,
    State,
)
from fastalloc.recording.stacks import depth_of
from fastalloc.recording.strings import Strings
from fastalloc.recording.tables import damaged

if TYPE_CHECKING:
    from fastalloc.recording.tables import Tables

MAX_DEPTH = 1024
"""Of a stack. The recorder keeps 256 frames at most."""
MAX_START_TIME_NS = 253_402_300_799 * 10**9
"""The end of the year 9999: later instants are no `datetime`."""

STRING_IDS = {
    Region.FUNCTIONS: ("name", "file"),
    Region.SPANS: ("name",),
    Region.PHASES: ("name", "span_name"),
    Region.THREAD_NAMES: ("name",),
    Region.RECORDS: ("name", "span_name"),
    Region.EVENTS: ("span",),
}
INDICES = {
    Region.THREADS: {
        "name": Region.THREAD_NAMES,
        "span": Region.SPANS,
        "phase": Region.PHASES,
    },
    Region.NODES: {"function": Region.FUNCTIONS},
    Region.SITES: {"node": Region.NODES},
    Region.SPANS: {"thread_name": Region.THREAD_NAMES},
    Region.LIVE: {
        "site": Region.SITES,
        "span": Region.SPANS,
        "phase": Region.PHASES,
        "thread_name": Region.THREAD_NAMES,
    },
    Region.FREED: {
        "site": Region.SITES,
        "phase": Region.PHASES,
        "thread_name": Region.THREAD_NAMES,
    },
    Region.RECORDS: {"thread_name": Region.THREAD_NAMES},
    Region.EVENTS: {"node": Region.NODES},
}
NUMBERS = {
    (Region.SITES, "domain"): len(Domain),
    (Region.LIVE, "domain"): len(Domain),
    (Region.RECORDS, "kind"): max(RecordKind) + 1,
    (Region.EVENTS, "kind"): max(EventKind) + 1,
}


def check(tables: Tables) -> Strings:
    """Check `tables`, in place: afterwards every reference is good. Returns their strings.

    Empties the free slots of the live table and of the span table, and gives every table an
    entry 0. Raises RecordingError. Cost: some vectorised passes over the tables.
    """
    _Checks(tables).run()
    return Strings(tables[Region.STRINGS])


class _Checks:
    """The checks of one copy."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._strings = Strings(tables[Region.STRINGS])

    def run(self) -> None:
        self._header()
        for region, table in self._tables.entries.items():
            if not len(table) and region in _WITH_NONE:
                self._tables.entries[region] = np.zeros(1, table.dtype)
        self._free_slots()
        for region, names in STRING_IDS.items():
            for name in names:
                self._string_ids(region, name)
        self._distinct_strings()
        for region, targets in INDICES.items():
            for name, target in targets.items():
                self._below(region, name, len(self._tables[target]), target.name.lower())
        for (region, name), limit in NUMBERS.items():
            self._below(region, name, limit, f"the {name}s known")
        self._nodes()
        for region in (Region.RECORDS, Region.EVENTS):
            self._sequence(region)

    def _header(self) -> None:
        header, path = self._tables.header, self._tables.path
        if header["mode"] >= len(Mode) or header["state"] >= len(State):
            raise damaged(path, "its mode or state is none that exists")
        if header["exit_kind"] >= len(Exit):
            raise damaged(path, "its way of ending is none that exists")
        for name in ("exit_name", "native_reason"):
            if not self._strings.are_valid(np.array([header[name]], np.uint32))[0]:
                if self._tables.consistent:
                    raise damaged(path, f"its {name} is no string")
                header[name] = 0
        if header["start_time_ns"] > MAX_START_TIME_NS:
            raise damaged(path, "it starts after the year 9999")
        if header["process_phase"] >= max(len(self._tables[Region.PHASES]), 1):
            if self._tables.consistent:
                raise damaged(path, "the process's phase is none that exists")
            header["process_phase"] = 0

    def _free_slots(self) -> None:
        """Clear what free slots hold: their `site` and `name` chain them, and mean nothing."""
        live, spans = self._tables[Region.LIVE], self._tables[Region.SPANS]
        live[live["address"] == 0] = np.zeros(1, live.dtype)
        live[:1] = np.zeros(1, live.dtype)
        free = spans["id"] == 0
        free[:1] = False
        spans[free] = np.zeros(1, spans.dtype)
        spans["name"][:1] = 0

    def _amend(self, region: Region, name: str, wrong: npt.NDArray[np.bool_], what: str) -> None:
        """Make wrong values 0, or refuse the file."""
        if not wrong.any():
            return
        if self._tables.consistent:
            number = int(np.argmax(wrong))
            raise damaged(self._tables.path, f"{region.name.lower()}[{number}].{name} {what}")
        self._tables[region][name][wrong] = 0

    def _string_ids(self, region: Region, name: str) -> None:
        ids = self._tables[region][name]
        self._amend(region, name, ~self._strings.are_valid(ids), "is no string")

    def _distinct_strings(self) -> None:
        """Overlapping strings could be many times longer, taken together, than the file."""
        ids = [self._tables[region][name] for region, names in STRING_IDS.items() for name in names]
        if self._strings.total_bytes(ids) > len(self._tables[Region.STRINGS]):
            raise damaged(self._tables.path, "its strings overlap")

    def _below(self, region: Region, name: str, limit: int, what: str) -> None:
        self._amend(region, name, self._tables[region][name] >= limit, f"is beyond {what}")

    def _nodes(self) -> None:
        """Parents come first, so no stack is a circle; and none is absurdly deep."""
        parents = self._tables[Region.NODES]["parent"]
        wrong = parents >= np.arange(len(parents))
        wrong[0] = parents[0] != 0
        self._amend(Region.NODES, "parent", wrong, "does not come before its child")
        depth = depth_of(parents)
        if depth > MAX_DEPTH:
            raise damaged(self._tables.path, f"a stack has {depth} frames")

    def _sequence(self, region: Region) -> None:
        """An entry of a ring carries its number; with another number it was not written whole."""
        table = self._tables[region]
        used = int(self._tables.header["regions"][region]["used"])
        expected = np.arange(len(table), dtype=np.uint64) + np.uint64(used - len(table) + 1)
        self._amend(region, "kind", table["sequence"] != expected, "is not the entry expected here")


_WITH_NONE = frozenset(
    region for region in Region if region not in RINGS | {Region.OPTIONS, Region.STRINGS}
)
"""Tables whose entry 0 means "none"."""
