"""How a recorded process ended, with the evidence, and never more certainty than the evidence gives.

What the process said itself comes first. One that said nothing was killed, or left by os._exit: then
the kernel's log, its cgroup's counter of kills and the usage last seen tell more or less surely
whether it was for memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fastalloc.analysis.failures import guilty_failure, responsible
from fastalloc.analysis.kills import counted_kills, logged_kill, witness
from fastalloc.analysis.lives import Life, life, went_on_as
from fastalloc.analysis.safety import limit_source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastalloc.analysis.machine import Machine
    from fastalloc.recording.snapshot import Snapshot

KINDS = {
    "clean": "ended cleanly",
    "stopped": "stopped recording, and has ended since",
    "signal": "ended by a signal",
    "exception": "ended by an exception",
    "exec": "went over to another program",
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
        return self.kind not in ("clean", "stopped", "exec") or self.name.startswith(FAILED)


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


def usage(snapshot: Snapshot) -> Usage:
    """The usage as the process last read it."""
    header = snapshot.header
    of_cgroup = "cgroup" in limit_source(snapshot)
    used = snapshot.cgroup_bytes if of_cgroup and snapshot.cgroup_bytes else snapshot.rss_bytes
    age = max(snapshot.duration_seconds - header["usage_ns"] / 1e9, 0.0)
    return Usage(used, snapshot.limit_bytes, of_cgroup, age)


def ending(snapshot: Snapshot, machine: Machine, others: Sequence[Life]) -> Ending:
    """How the process of `snapshot` ended. `others`: all recordings of the folder, its own too.

    Cost: a few system calls; the kernel's log is read once for each `machine`.
    """
    if snapshot.state == "stopped":
        return Ending("stopped", "certain", "", ["it called fastalloc.stop()"])
    if snapshot.exit_kind != "unknown":
        return _as_told(snapshot)
    if snapshot.state == "exited":  # a recording of before exits were noted
        return Ending("clean", "certain", "", ["the interpreter finished"])
    own = life(snapshot)
    successor = went_on_as(own, others)
    if successor is not None:
        return _ending_by_exec(own, successor)
    return _without_a_word(own, machine, others)


def _ending_by_exec(own: Life, successor: Life) -> Ending:
    after = successor.begin_seconds - own.begin_seconds
    program = str(successor.snapshot.options.get("program", ""))[:80] or "another recording"
    text = f"the same process went on as {program}, {after:.1f} s after it had begun"
    return Ending("exec", "certain", "", [text])


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
    times = f" {failure.times} times, the last" if failure.times > 1 else ""
    before = max(snapshot.duration_seconds - failure.seconds, 0.0)
    return (
        f"an allocation of {failure.size} bytes failed{where}{times}, {before:.1f} s before its last "
        "sign of life"
    )


def _without_a_word(own: Life, machine: Machine, others: Sequence[Life]) -> Ending:
    """It was killed or left by os._exit: was it for memory?"""
    snapshot = own.snapshot
    seen = usage(snapshot)
    evidence = [_describe(seen)] if seen.limit_bytes else []
    other = witness(own, others) if seen.of_cgroup else None
    if other is not None:
        # One that waits in C may have read the usage last long before: the same cgroup's is meant.
        seen = usage(other.snapshot)
        evidence = [f"{_describe(seen)}, by process {other.snapshot.pid} in it"]
    if snapshot.header["guard_state"] == _TRIPPED:
        evidence.append(_tripped(snapshot))
    failed = failed_allocation(snapshot)
    if failed:
        evidence.append(failed)
    logged = logged_kill(own, machine, others)
    if logged:
        text = f"the kernel's log: {logged.text}"
        return Ending("out_of_memory", "certain", "", [text, *evidence])
    near = seen.percent >= NEAR_PERCENT or snapshot.header["guard_state"] == _TRIPPED
    counted = counted_kills(own, machine, others)
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


def _tripped(snapshot: Snapshot) -> str:
    """That the guard had acted, and on what: usage says little where one allocation was to be too much."""
    header = snapshot.header
    text = "the guard of its limit had acted"
    if not header["guard_size"]:
        return text
    events = snapshot.events
    trips = events[(events["kind"] == "guard") & (events["a"] == _TRIPPED)]
    frame = responsible(snapshot, int(trips["node"][-1]))[0] if len(trips) else None
    where = f" at {frame.place} in {frame.function}" if frame else ""
    return (
        f"{text}: an allocation of {header['guard_size']} bytes was asked for{where}, with "
        f"{header['guard_usage_bytes']} bytes in use"
    )


def _likely(evidence: list[str]) -> Ending:
    return Ending("out_of_memory", "likely", "", evidence)


def _unknown(evidence: list[str]) -> Ending:
    return Ending("killed", "unknown", "", evidence)


def _kills(count: int) -> str:
    return "1 kill" if count == 1 else f"{count} kills"


def _describe(seen: Usage) -> str:
    what = "its cgroup used" if seen.of_cgroup else "it used"
    return f"{what} {seen.percent:.0f} % of the limit when last seen"
