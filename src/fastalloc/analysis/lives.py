"""Where recorded processes stand in time and beside each other: who lived when, in which cgroup, and who
went on as somebody else."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastalloc.recording.snapshot import Snapshot


class Life(NamedTuple):
    """A recorded process in time."""

    snapshot: Snapshot
    begin_seconds: float
    """Since 1970: when it, or the process it was forked off, noted its cgroup's counter."""
    last_seconds: float
    """Since 1970: its last sign of life."""

    @property
    def boot_id(self) -> str:
        """Which run of which machine it was in; "" if it noted none."""
        return str(self.snapshot.options.get("boot_id", ""))

    @property
    def cgroup(self) -> tuple[str, str, int] | None:
        """What identifies its cgroup: the boot, the folder, its number; None if it noted none."""
        options = self.snapshot.options
        boot, folder, number = (options.get(name) for name in ("boot_id", "cgroup", "cgroup_id"))
        if isinstance(boot, str) and isinstance(folder, str) and isinstance(number, int):
            return (boot, folder, number) if boot and folder and number else None
        return None

    @property
    def usage_read_seconds(self) -> float:
        """Since 1970: when it last read the usage."""
        header = self.snapshot.header
        return (header["start_time_ns"] + header["usage_ns"]) / 1e9

    @property
    def until_seconds(self) -> float:
        """Since 1970: how long it surely lived. Without end while it runs."""
        return float("inf") if self.snapshot.state == "running" else self.last_seconds


def life(snapshot: Snapshot) -> Life:
    """Where a recording stands in time. Cost: none."""
    start = snapshot.header["start_time_ns"] / 1e9
    return Life(
        snapshot,
        start + min(snapshot.header["forked_ns"] / 1e9, snapshot.duration_seconds),
        start + snapshot.duration_seconds,
    )


def went_on_as(each: Life, others: Iterable[Life]) -> Life | None:
    """The recording that the same process began later, as another program (exec); None if none did.

    The kernel's start time of a process outlives exec, and tells it from a later one with its pid.
    """
    if not _identity(each)[-1]:
        return None
    later = [
        other
        for other in others
        if other.snapshot.pid == each.snapshot.pid  # the cheapest first: there may be many
        and other.snapshot.path != each.snapshot.path
        and _identity(other) == _identity(each)
        and other.begin_seconds > each.begin_seconds
    ]
    return min(later, key=lambda other: other.begin_seconds, default=None)


def _identity(each: Life) -> tuple[str, int, int, int]:
    header = each.snapshot.header
    return (
        each.boot_id,
        header["pid_namespace"],
        each.snapshot.pid,
        header["process_start_ticks"],
    )


def overlapping(lives: Iterable[Life]) -> list[list[Life]]:
    """Those that lived at the same time, directly or by way of others, together; each group and the
    groups in the order in which they began."""
    groups: list[list[Life]] = []
    until = float("-inf")
    for each in sorted(lives, key=lambda each: each.begin_seconds):
        if each.begin_seconds > until:
            groups.append([])
        groups[-1].append(each)
        until = max(until, each.until_seconds)
    return groups
