"""The allocation that failed: which of those that a recording knows is the one to blame.

Where memory is gone, failures come in swarms: the exception is handled, printed, the interpreter ends,
and each of these may want memory in vain. The newest is rarely the one that matters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fastalloc.recording.modules import is_own

if TYPE_CHECKING:
    from fastalloc.recording.snapshot import Snapshot
    from fastalloc.recording.stacks import Frame


class Failure(NamedTuple):
    """An allocation that failed."""

    size: int
    """Bytes asked for; the largest, of several at the same stack."""
    times: int
    """How often it failed at this stack."""
    seconds: float
    """Since the recording began: the last time."""
    place: str
    """The program's own line, `path:line`; else the innermost frame; "" without a stack."""
    function: str
    """Whose line it is, likewise."""

    def text(self) -> str:
        """`1000 bytes at path:line in function`."""
        where = f" at {self.place} in {self.function}" if self.place else ""
        return f"{self.size} bytes{where}"


def guilty_failure(snapshot: Snapshot) -> Failure | None:
    """The failed allocation that ended the process, if one did; else the last that matters.

    Of those that the program's own code brought about the last before the end was noted; else the last
    with a stack; else the last. None: no allocation failed. Cost: a pass over at most 256 events.
    """
    events = snapshot.events
    events = events[events["kind"] == "failed_allocation"]
    if not len(events):
        return None
    noted_ns = snapshot.header["exit_ns"]
    best, best_rank = None, (-1, -1)
    for event in events:
        frame, is_own_code = responsible(snapshot, int(event["node"]))
        in_time = not noted_ns or int(event["time_ns"]) <= noted_ns
        rank = ((2 if is_own_code else 1 if frame else 0), int(in_time))
        if rank >= best_rank:
            best_rank, best = (
                rank,
                Failure(
                    int(event["a"]),
                    int(event["count"]),
                    int(event["time_ns"]) / 1e9,
                    frame.place if frame else "",
                    frame.function if frame else "",
                ),
            )
    return best


def responsible(snapshot: Snapshot, node: int) -> tuple[Frame | None, bool]:
    """(the innermost frame of an event's stack that is the program's own code, True); where there is
    none (the innermost, False); without a stack (None, False)."""
    stack = snapshot.stack_of_node(node) if node else []
    for frame in stack:
        if not frame.is_native and is_own(frame.file):
            return frame, True
    return (stack[0] if stack else None), False
