"""How a recorded process ended, with the evidence, and never more certainty than the evidence gives.

What the process said itself comes first. One that said nothing was killed, or left by os._exit: then
the kernel's log, its cgroup's counter of kills and the usage last seen tell more or less surely
whether it was for memory.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from fastalloc.analysis.failures import guilty_failure
from fastalloc.analysis.machine import INITIAL_PID_NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastalloc.analysis.machine import KernelKill, Machine
    from fastalloc.recording.snapshot import Snapshot

KINDS = {
    "clean": "ended cleanly",
    "stopped": "stopped recording, and has ended since",
    "signal": "ended by a signal",
    "exception": "ended by an exception",
    "failed_allocation": "ended by a failed allocation",
    "out_of_memory": "killed: out of memory",
    "killed": "killed, or left by os._exit",
    "dumped": "wrote a dump; its recording is gone",
}
CERTAINTIES = ("certain", "likely", "unknown")

NEAR_PERCENT = 90
"""From here on usage counts as near the limit: the kernel kills at 100, the last reading is older."""
FAR_PERCENT = 75
FAILED = "exit status "
"""How the name of a clean end begins whose status is not 0: a child of multiprocessing tells it."""
HARMLESS_SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")
LOG_TOLERANCE_SECONDS = 5.0
"""The kernel's log has a clock of its own."""


class Ending(NamedTuple):
    """How a process ended."""

    kind: str
    """Of KINDS."""
    certainty: str
    """Of CERTAINTIES: whether it is that kind. For killed it is unknown what killed it."""
    name: str
    """The exception's class, the signal's name, or why a dump was written; "" for none."""
    evidence: list[str]
    """Sentences, the strongest first."""
    died: bool = True
    """False: it is not known that the process died; it may have lived on (dumped)."""

    @property
    def is_bad(self) -> bool:
        """Nobody meant the process to end like this."""
        if self.kind == "dumped":
            return self.died
        if self.kind == "signal":
            return self.name not in HARMLESS_SIGNALS
        return self.kind not in ("clean", "stopped") or self.name.startswith(FAILED)


class Usage(NamedTuple):
    """The memory usage last seen."""

    used_bytes: int
    limit_bytes: int
    of_cgroup: bool
    """The usage is the cgroup's, else the process's own (RSS)."""
    age_seconds: float
    """Before the last sign of life."""

    @property
    def percent(self) -> float:
        return 100 * self.used_bytes / self.limit_bytes if self.limit_bytes else 0.0


class Candidate(NamedTuple):
    """A process that ended without a word, or one whose recording tells a counter's reading."""

    snapshot: Snapshot
    begin_seconds: float
    """Since 1970: when it, or the process it was forked off, noted its cgroup's counter."""
    last_seconds: float
    """Since 1970: its last sign of life."""


def candidate(snapshot: Snapshot) -> Candidate:
    """Where a recording stands in time. Cost: none."""
    start = snapshot.header["start_time_ns"] / 1e9
    return Candidate(
        snapshot,
        start + min(snapshot.header["forked_ns"] / 1e9, snapshot.duration_seconds),
        start + snapshot.duration_seconds,
    )


def usage(snapshot: Snapshot) -> Usage:
    """The usage as the process last read it."""
    header = snapshot.header
    of_cgroup = "cgroup" in str(snapshot.options.get("limit_source", ""))
    used = snapshot.cgroup_bytes if of_cgroup and snapshot.cgroup_bytes else snapshot.rss_bytes
    age = max(snapshot.duration_seconds - header["usage_ns"] / 1e9, 0.0)
    return Usage(used, snapshot.limit_bytes, of_cgroup, age)


def ending(snapshot: Snapshot, machine: Machine, others: Sequence[Candidate]) -> Ending:
    """How the process of `snapshot` ended. `others`: all recordings of the folder, its own too.

    Cost: a few system calls; the kernel's log is read once for each `machine`.
    """
    if snapshot.state == "stopped":
        return Ending("stopped", "certain", "", ["it called fastalloc.stop()"])
    if snapshot.exit_kind != "unknown":
        return _as_told(snapshot)
    if snapshot.state == "exited":  # a recording of before exits were noted
        return Ending("clean", "certain", "", ["the interpreter finished"])
    return _without_a_word(snapshot, machine, others)


def ending_of_dump(dump: Snapshot) -> Ending:
    """What a dump tells of the end of a process whose recording is gone: why it was written.

    No more: a process that was near its limit may have lived on and ended well. Only a dump that was
    made from outside knows that its process was dead by then.
    """
    reason = str(dump.dump.get("reason", ""))[:80]
    seen = usage(dump)
    evidence = [f"a dump was written ({reason or 'no reason is given'})"]
    if seen.limit_bytes:
        evidence.append(_describe(seen))
    died = dump.state == "killed"
    evidence.append(
        "its process had been killed by then" if died else "what became of its process is not known"
    )
    return Ending("dumped", "unknown", reason, evidence, died)


def _as_told(snapshot: Snapshot) -> Ending:
    """The process said itself how it ends."""
    name = snapshot.exit_name
    said = f"it said so {snapshot.duration_seconds - snapshot.header['exit_ns'] / 1e9:.1f} s before"
    last_words = (
        ["at the end of the interpreter"]
        if snapshot.header["state"] != 1
        else [f"{said} its last sign of life; then its process was gone"]
    )
    if snapshot.exit_kind == "clean":
        return Ending("clean", "certain", name, last_words)
    if snapshot.exit_kind == "signal":
        return Ending("signal", "certain", name, last_words)
    failed = failed_allocation(snapshot)
    if failed and "MemoryError" in name:
        return Ending("failed_allocation", "certain", name, [failed, *last_words])
    return Ending("exception", "certain", name, last_words)


def failed_allocation(snapshot: Snapshot) -> str:
    """The allocation that failed, as a sentence; "" if none did."""
    failure = guilty_failure(snapshot)
    if failure is None:
        return ""
    where = f" at {failure.place} in {failure.function}" if failure.place else ""
    times = f" {failure.count} times, the last" if failure.count > 1 else ""
    before = max(snapshot.duration_seconds - failure.seconds, 0.0)
    return (
        f"an allocation of {failure.size} bytes failed{where}{times}, {before:.1f} s before its last "
        "sign of life"
    )


def _without_a_word(snapshot: Snapshot, machine: Machine, others: Sequence[Candidate]) -> Ending:
    """It was killed or left by os._exit: was it for memory?"""
    seen = usage(snapshot)
    evidence = [_describe(seen)] if seen.limit_bytes else []
    if snapshot.header["guard_state"] == _TRIPPED:
        evidence.append("the guard of its limit had acted")
    failed = failed_allocation(snapshot)
    if failed:
        evidence.append(failed)
    logged = _logged_kill(snapshot, machine)
    if logged:
        text = f"the kernel's log: {logged.text}"
        return Ending("out_of_memory", "certain", "", [text, *evidence])
    near = seen.percent >= NEAR_PERCENT or snapshot.header["guard_state"] == _TRIPPED
    counted = _counted_kills(snapshot, machine, others)
    if counted is None:
        evidence.append("its cgroup is gone, and the kernel's log does not tell of it")
        return Ending("out_of_memory", "likely", "", evidence) if near else _unknown(evidence)
    kills, rivals, now = counted
    if not kills:
        if now:
            evidence.insert(0, "its cgroup has counted no kill for memory since: it was not that")
        return _unknown(evidence) if now or not near else _likely(evidence)
    evidence.insert(0, f"its cgroup has counted {_kills(kills)} for memory since")
    if kills >= len(rivals):
        certain = near or seen.percent >= FAR_PERCENT
        return Ending("out_of_memory", "certain" if certain else "likely", "", evidence)
    largest = sorted(rivals, key=lambda rival: -rival.snapshot.rss_bytes)[:kills]
    others_text = f"{len(rivals)} processes of this cgroup ended without a word meanwhile"
    if any(rival.snapshot.path == snapshot.path for rival in largest):
        return _likely([*evidence, f"{others_text}; this one was the largest"])
    return _unknown([*evidence, f"{others_text}; others were larger"])


_TRIPPED = 3


def _likely(evidence: list[str]) -> Ending:
    return Ending("out_of_memory", "likely", "", evidence)


def _unknown(evidence: list[str]) -> Ending:
    return Ending("killed", "unknown", "", evidence)


def _kills(count: int) -> str:
    return "1 kill" if count == 1 else f"{count} kills"


def _describe(seen: Usage) -> str:
    what = "its cgroup used" if seen.of_cgroup else "it used"
    return f"{what} {seen.percent:.0f} % of the limit when last seen"


def _logged_kill(snapshot: Snapshot, machine: Machine) -> KernelKill | None:
    """The kernel's line about this process. Only where its pid is the kernel's own for it."""
    header = snapshot.header
    if header["pid_namespace"] != INITIAL_PID_NAMESPACE or not _same_boot(snapshot, machine):
        return None
    last = header["start_monotonic_ns"] / 1e9 + snapshot.duration_seconds
    for kill in machine.kernel_kills:
        if kill.pid == snapshot.pid and kill.seconds > last - LOG_TOLERANCE_SECONDS:
            return kill
    return None


def _same_boot(snapshot: Snapshot, machine: Machine) -> bool:
    return bool(machine.boot_id) and snapshot.options.get("boot_id") == machine.boot_id


def _cgroup_of(snapshot: Snapshot) -> tuple[str, str, int] | None:
    """What identifies the process's cgroup; None if it noted none."""
    options = snapshot.options
    boot, folder, number = (options.get(name) for name in ("boot_id", "cgroup", "cgroup_id"))
    if isinstance(boot, str) and isinstance(folder, str) and isinstance(number, int):
        return (boot, folder, number) if boot and folder and number else None
    return None


def _counted_kills(
    snapshot: Snapshot, machine: Machine, others: Sequence[Candidate]
) -> tuple[int, list[Candidate], bool] | None:
    """(kills that the cgroup counted from the last reading in this process's life to the first one
    afterwards that shows any; the processes that may be meant; whether the counter was read now).

    Each process notes the counter when it begins, so later ones tell of the end of earlier ones,
    also when the cgroup itself is gone. None: nothing tells.
    """
    group = _cgroup_of(snapshot)
    if group is None:
        return None
    inside = [other for other in others if _cgroup_of(other.snapshot) == group]
    own = candidate(snapshot)
    readings = [
        (other.begin_seconds, other.snapshot.header["oom_kills_at_start"]) for other in inside
    ]
    readings.append((own.begin_seconds, snapshot.header["oom_kills_at_start"]))
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
    ]
    return max(count - before[1], 0), rivals or [own], latest is not None
