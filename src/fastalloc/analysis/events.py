"""What happened to a recorder, in words: its events, each as one line of text and where it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from fastalloc.recording.layout import Domain, Guard, Mode, NativeEvent

if TYPE_CHECKING:
    from fastalloc.recording.reader import Snapshot


class Happened(NamedTuple):
    """One event."""

    seconds: float
    """Since the recording began."""
    kind: str
    text: str
    where: str
    """ "function (file:line)", the innermost frame; "" where the event has no stack."""
    span: str


def happened(snapshot: Snapshot) -> list[Happened]:
    """The events that the recording still holds, the oldest first. Cost: a pass over at most 256."""
    found = []
    for event in snapshot.events:
        stack = snapshot.stack_of_node(int(event["node"])) if event["node"] else []
        where = f"{stack[0].function} ({stack[0].file}:{stack[0].line})" if stack else ""
        kind = str(event["kind"])
        is_other = kind in ("breaker", "limit")  # which say in `span_name` what they are about
        found.append(
            Happened(
                int(event["time_ns"]) / 1e9,
                kind,
                _text(snapshot, kind, event),
                where,
                "" if is_other else str(event["span_name"]),
            )
        )
    return found


def _text(snapshot: Snapshot, kind: str, event: Any) -> str:
    a, b = int(event["a"]), int(event["b"])
    if kind == "failed_allocation":
        times = f", {event['count']} times" if event["count"] > 1 else ""
        return f"tried to allocate {a} bytes ({_name(Domain, b)}), and there was no memory{times}"
    if kind == "guard":
        return _of_guard(snapshot, a, b)
    if kind == "mode":
        return f"mode {_name(Mode, a)} became {_name(Mode, b)}"
    if kind in ("interval", "thinned"):
        reason = ": the live table was full" if kind == "thinned" else ""
        return f"interval {a} became {b}{reason}"
    if kind == "fork":
        return f"forked from process {a}"
    if kind == "dump":
        return {1: "a dump was begun", 2: f"a dump was written in {b} ms"}.get(a, "a dump failed")
    if kind == "native":
        return _of_native(a, b)
    if kind == "limit":
        old, new = (f"{bytes} bytes" if bytes else "none" for bytes in (a, b))
        return f"the memory limit of {event['span_name']} was {old}, and is {new}"
    if kind == "start":
        return f"recording began in mode {_name(Mode, a)}"
    if kind == "stop":
        return "recording ended" + (" at the exit" if a else "")
    return kind.replace("_", " ")


def _of_guard(snapshot: Snapshot, state: int, used: int) -> str:
    header = snapshot.header
    if state == Guard.TRIPPED:
        size = int(header["guard_size"]) if int(header["guard_usage_bytes"]) == used else 0
        coming = f", and {size} bytes more were asked for" if size else ""
        return f"usage reached {header['guard_percent']} % of the limit: {used} bytes{coming}"
    if state == Guard.WARNED:
        return f"usage reached {header['summary_percent']} % of the limit: {used} bytes"
    return f"usage has fallen to {used} bytes: the guard is armed again"


def _of_native(what: int, slots: int) -> str:
    if what == NativeEvent.ON:
        return f"malloc and mmap were hooked, at {slots} addresses"
    if what == NativeEvent.GAP:
        return (
            "another tool had taken hooks of malloc or mmap away and left: they were put back, "
            "and the native samples dropped"
        )
    return "malloc and mmap are not hooked (any more); their samples, if any, were dropped"


def _name(enumeration: Any, number: int) -> str:
    try:
        return str(enumeration(number).name.lower())
    except ValueError:
        return str(number)
