"""What tells that a process was killed for memory: the kernel's log, its cgroup's counter, its neighbours."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fastalloc.analysis.lives import went_on_as
from fastalloc.analysis.machine import INITIAL_PID_NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastalloc.analysis.lives import Life
    from fastalloc.analysis.machine import KernelKill, Machine

LOG_TOLERANCE_SECONDS = 5.0
"""The kernel's log has a clock of its own."""
DYING_SECONDS = 60.0
"""A process gives a sign of life once a second; where memory is short the last one may be so old. What
happens later under its pid happens to another process."""


def logged_kill(own: Life, machine: Machine, others: Sequence[Life]) -> KernelKill | None:
    """The kernel's line about this process. Only where its pid is the kernel's own for it, and soon
    enough after its last sign of life: pids are given again."""
    header = own.snapshot.header
    if header["pid_namespace"] != INITIAL_PID_NAMESPACE:
        return None
    if not machine.boot_id or own.boot_id != machine.boot_id:
        return None
    other = witness(own, others)
    last = max(own.last_seconds, other.last_seconds if other else 0.0)
    # Since boot, as the log has it.
    boot = (header["start_time_ns"] - header["start_monotonic_ns"]) / 1e9
    earliest, latest = own.last_seconds - LOG_TOLERANCE_SECONDS, last + DYING_SECONDS
    latest = min([latest, *_later_with_the_pid(own, others)])
    for kill in machine.kernel_kills:
        if kill.pid == own.snapshot.pid and earliest < kill.seconds + boot <= latest:
            return kill
    return None


def _later_with_the_pid(own: Life, others: Sequence[Life]) -> list[float]:
    """When later processes began that were given the same pid."""
    return [
        other.begin_seconds
        for other in others
        if other.snapshot.pid == own.snapshot.pid
        and other.snapshot.header["pid_namespace"] == own.snapshot.header["pid_namespace"]
        and other.begin_seconds > own.last_seconds
    ]


def witness(own: Life, others: Sequence[Life]) -> Life | None:
    """Whose reading of the usage, in the same cgroup, is the nearest to this process's end, if that is
    not its own: of its parent, its children and their siblings, one that ended without a word, too."""
    group = own.cgroup
    if group is None:
        return None
    family = {own.snapshot.pid, own.snapshot.parent_pid}
    relatives = [
        other
        for other in others
        if other.snapshot.state == "killed"
        and (other.snapshot.parent_pid in family or other.snapshot.pid in family)
        and other.cgroup == group
        and other.snapshot.path != own.snapshot.path
        and other.last_seconds >= own.last_seconds
        and other.usage_read_seconds > own.usage_read_seconds + 1
    ]
    return max(relatives, key=lambda other: other.usage_read_seconds, default=None)


def counted_kills(
    own: Life, machine: Machine, others: Sequence[Life]
) -> tuple[int, list[Life], bool] | None:
    """(kills that the cgroup counted from the last reading in this process's life to the first one
    afterwards that shows any; the processes that may be meant; whether the counter was read now).

    Each process notes the counter when it begins, so later ones tell of the end of earlier ones,
    also when the cgroup itself is gone. None: nothing tells.
    """
    group = own.cgroup
    if group is None:
        return None
    inside = [other for other in others if other.cgroup == group]
    readings = [
        (other.begin_seconds, other.snapshot.header["oom_kills_at_start"]) for other in inside
    ]
    readings.append((own.begin_seconds, own.snapshot.header["oom_kills_at_start"]))
    before = max(reading for reading in readings if reading[0] <= own.last_seconds)
    later = sorted(reading for reading in readings if reading[0] > own.last_seconds)
    latest = None
    if group[0] == machine.boot_id:
        latest = machine.oom_kills(group[1], group[2])
    if latest is not None:
        later.append((math.inf, latest))
    if not later:
        return None
    # The first reading that shows a kill is the closest to it.
    when, count = next((each for each in later if each[1] > before[1]), later[-1])
    rivals = [
        other
        for other in inside
        if other.snapshot.state == "killed"
        and other.last_seconds >= before[0]
        and other.begin_seconds < when
        and went_on_as(other, inside) is None
    ]
    return max(count - before[1], 0), rivals or [own], latest is not None
