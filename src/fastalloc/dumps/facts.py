"""The sections of state.json that are facts, not stacks: process, memory, objects, modules.

No values: names, counts, sizes and paths of files only. The arguments of the program are left out.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from types import ModuleType

from fastalloc import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fastalloc.status import Status

VERSION = "0.1.0"  # fastalloc's own, as in pyproject.toml: looking it up would load a megabyte
GUARD_STATES = ("off", "armed", "warned", "tripped")
MOST_TYPES = 100
MOST_CHECKPOINTS = 50
# As in enum fa_loss
LOSSES = (
    *(
        "strings",
        "functions",
        "nodes",
        "sites",
        "live",
        "deep_stack",
        "no_stack",
        "threads",
        "spans",
    ),
    *("phases", "thread_names", "stale", "reentrant", "fork", "displaced"),
)

_process_start: dict[int, float] = {}  # pid -> unix time


def process_start() -> float:
    """When this process started, in unix seconds; 0: not known. Cheap the second time."""
    pid = os.getpid()
    if pid not in _process_start:
        _process_start.clear()
        try:
            with open("/proc/self/stat", "rb") as file:
                ticks = int(file.read().rpartition(b")")[2].split()[19])
            seconds = ticks / os.sysconf("SC_CLK_TCK")
            since = time.clock_gettime(time.CLOCK_BOOTTIME) - seconds
            _process_start[pid] = time.time() - since
        except (OSError, ValueError, IndexError):
            _process_start[pid] = 0.0
    return _process_start[pid]


def process(program: str) -> dict[str, object]:
    """Which process this is."""
    system = os.uname()
    return {
        "pid": os.getpid(),
        "parent_pid": os.getppid(),
        "program": program,
        "start_time": process_start(),
        "python": sys.version.partition(" ")[0],
        "implementation": sys.implementation.name,
        "executable": sys.executable or "",
        "platform": f"{system.sysname} {system.release} {system.machine}",
        "host": system.nodename,
    }


def memory(status: Status, header: dict[str, Any], headroom: int) -> dict[str, object]:
    """Limit and usage. headroom_bytes: until the limit, -1 where none is known."""
    return {
        "limit_bytes": status.limit_bytes,
        "limit_source": status.limit_source,
        "headroom_bytes": headroom,
        "rss_bytes": status.rss_bytes,
        "cgroup_bytes": status.cgroup_bytes,
        "live_bytes": status.live_bytes,
        "high_water_bytes": header["high_water_bytes"],
    }


def resident() -> dict[str, object]:
    """What resident memory consists of: struct fa_resident, None for what cannot be told. It is in the
    recording's copy as well."""
    told: dict[str, object] = dict(_core.look_at_resident())
    del told["time_ns"]
    return told


def guard(header: dict[str, Any]) -> dict[str, object]:
    """What the guard of the limit has seen. size: of the allocation that tripped it."""
    number = header["guard_state"]
    return {
        "state": GUARD_STATES[number] if number < len(GUARD_STATES) else "unknown",
        "trips": header["guard_trips"],
        "guard_percent": header["guard_percent"],
        "summary_percent": header["summary_percent"],
        "usage_bytes": header["guard_usage_bytes"],
        "size": header["guard_size"],
    }


def recorder(status: Status) -> dict[str, object]:
    """What `status()` says, less the options, which have a section of their own."""
    told = status.to_dict()
    return {name: value for name, value in told.items() if name not in ("options", "sources")}


def options(status: Status) -> dict[str, object]:
    """Each option's value and where it came from."""
    return {
        name: {"value": value, "source": status.sources.get(name, "")}
        for name, value in status.options.items()
    }


def losses(header: dict[str, Any]) -> dict[str, object]:
    """What could not be recorded, zeros left out."""
    names = [*LOSSES, *(f"loss {n}" for n in range(len(LOSSES), len(header["losses"])))]
    return {name: count for name, count in zip(names, header["losses"], strict=False) if count}


def garbage_collector() -> dict[str, object]:
    """The counts and thresholds of its generations, and what it has done so far."""
    return {
        "enabled": gc.isenabled(),
        "counts": gc.get_count(),
        "thresholds": gc.get_threshold(),
        "frozen": gc.get_freeze_count(),
        "garbage": len(gc.garbage),
        "stats": gc.get_stats(),
    }


def versions(header: dict[str, Any]) -> dict[str, object]:
    """Of what reading or explaining the dump may depend on."""
    return {
        "fastalloc": VERSION,
        "layout": header["layout_version"],
        "python": sys.version,
        "libc": os.confstr("CS_GNU_LIBC_VERSION") or ""
        if "CS_GNU_LIBC_VERSION" in os.confstr_names
        else "",
        "gil": bool(getattr(sys, "_is_gil_enabled", lambda: True)()),
    }


# --- from the recording -----------------------------------------------------------------------


def open_spans() -> dict[str, object]:
    """The spans that are open, in whatever thread or task; those that hold most, where there are many.
    count, bytes: exact, of their own steps. live_bytes: estimated."""
    spans = _core.open_spans()
    return {"more": next(spans), "items": spans}


def checkpoints(now_ns: int) -> dict[str, object]:
    """The last ones, and the two neighbours of one span between which the live heap rose most.

    jump_bytes: the live heap less that of the span's checkpoint before (its start, for the first);
    estimated, and of the whole process: what other threads allocated meanwhile is in it.
    """
    before: dict[int, tuple[str, int]] = {}
    last: list[dict[str, object]] = []
    largest: dict[str, object] | None = None
    for each in _core.checkpoints():
        span_id, live = each["span_id"], each["live_bytes"]
        known = before.get(span_id)
        jump = live - known[1] if known else each["live_change_bytes"] if span_id else 0
        before[span_id] = each["name"], live
        each["seconds_ago"] = (now_ns - each.pop("time_ns")) / 1e9
        each["jump_bytes"] = jump
        if jump > 0 and (largest is None or jump > largest["bytes"]):  # type: ignore[operator]
            largest = {
                "from": known[0] if known else "",
                "to": each["name"],
                "bytes": jump,
                "span_id": span_id,
                "span": each["span"],
            }
        last.append(each)
        if len(last) > MOST_CHECKPOINTS:
            del last[0]
    return {"largest_jump": largest, "items": iter(last)}


# --- objects and modules ----------------------------------------------------------------------


class Objects:
    """The objects that the garbage collector tracks, counted by type without a list of them.

    kept: those that dumps look at themselves, 256 at most: greenlets, and on 3.14 tasks. Costs 5 to 50
    ns for each object, with the GIL held; stops after `seconds`. No memory to speak of.
    """

    def __init__(self, seconds: float) -> None:
        wanted = []
        greenlet = getattr(sys.modules.get("greenlet"), "greenlet", None)
        if isinstance(greenlet, type):
            wanted.append(greenlet)
        if sys.version_info >= (3, 14) and "asyncio.tasks" in sys.modules:
            wanted.append(sys.modules["asyncio.tasks"].Task)
        counted = _core.count_objects(tuple(wanted), seconds, MOST_TYPES)
        self.shown = counted is not None
        self.rows, self.seen, self.complete, self.kept = counted or ([], 0, False, [])

    def section(self) -> dict[str, object]:
        """Objects that are not tracked (str, bytes, int, float) are not in it."""
        told: dict[str, object] = {
            "seen": self.seen,
            "complete": self.complete,
            "items": ({"type": name, "count": count} for name, count in self.rows),
        }
        if not self.shown:
            told["skipped"] = "this build of CPython keeps them in an unknown place"
        elif not self.complete:
            told["skipped"] = f"stopped after {self.seen} objects: no time is left (dump_max_ms)"
        return told


def modules() -> dict[str, object]:
    """Loaded packages that are not Python's own, with their version where they tell it."""
    standard = sys.stdlib_module_names
    parts: dict[str, int] = {}
    own = 0
    for name in list(sys.modules):
        top = name.partition(".")[0]
        if top in standard:
            own += 1
        else:
            parts[top] = parts.get(top, 0) + 1
    return {"standard_library": own, "items": (_module(*part) for part in sorted(parts.items()))}


def _module(name: str, parts: int) -> dict[str, object]:
    module = sys.modules.get(name)
    # Not by getattr: a module may load more of itself when asked for an attribute.
    names: Any = (
        object.__getattribute__(module, "__dict__") if isinstance(module, ModuleType) else {}
    )
    version = names.get("__version__")
    row: dict[str, object] = {"name": name, "modules": parts}
    if type(version) is str:
        row["version"] = version[:64]
    return row
