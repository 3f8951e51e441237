"""What the recorder does now, as one object: what `fastalloc.status()` returns."""

from __future__ import annotations

from fastalloc import breaker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastalloc.config import Config
    from fastalloc.limits import Limit


class Status:
    """What the recorder does now, and why. Attributes:

    active: bool, samples are being taken. state: "running", "stopped", "exited" or "empty".
    mode: str. reason: str, why nothing is recorded, "" while recording. recording: path of this
    process's recording, "" before the first start. interval_bytes, samples, live_bytes, rss_bytes,
    cgroup_bytes: int. limit_bytes, limit_source: the limit that holds, and where it was found: the
    smallest, or the fullest once one is half full; limit_usage_bytes: the usage that counts for it. limits: list of
    dicts, all that are watched: limit_bytes, source, kind (what is compared with it), usage_bytes. guard: "off",
    "armed", "warned", "tripped"; guard_trips: int. free_design: "divert" or
    "filter". native: bool, malloc and mmap are hooked too; native_reason: why not, though asked for, or what is amiss, though they are;
    native_frames_reason: likewise of the C functions of their stacks;
    native_slots: how many addresses of theirs in loaded objects lead to us. own_cpu_ns: int, CPU time
    that samples have taken; own_cpu_millionths: as a part of the process's, when last compared. level:
    "full"; "memory", the recording is in memory only; "counters", only what the kernel counts is known;
    or "off" (docs/safety.md). last_dump: path of the last dump written, dump_error: why the last one
    could not be. options, sources: each option's value, and where it came from. breakers: list of dicts,
    the circuit breaker of each layer that has run: layer, state ("closed", "open", "half-open"),
    failures in a row, last_error.
    """

    active = False
    state = "empty"
    mode = "disabled"
    reason = ""
    recording = ""
    pid = 0
    interval_bytes = 0
    samples = 0
    live_bytes = 0
    rss_bytes = 0
    cgroup_bytes = 0
    limit_bytes = 0
    limit_usage_bytes = 0
    limit_source = ""
    guard = "off"
    guard_trips = 0
    free_design = ""
    hooks_displaced = False
    native = False
    native_reason = ""
    native_frames_reason = ""
    native_slots = 0
    own_cpu_ns = 0
    own_cpu_millionths = 0
    level = "off"
    last_dump = ""
    dump_error = ""

    def __init__(
        self,
        facts: Mapping[str, object],
        config: Config | None,
        reason: str,
        limits: Sequence[Limit],
    ) -> None:
        self.__dict__.update(facts)
        self.options: dict[str, object] = config.to_dict() if config else {}
        self.sources: dict[str, str] = dict(config.sources) if config else {}
        self.breakers = [each.to_dict() for each in breaker.breakers()]
        index = int(str(facts.get("limit_index", 0)))
        self.limit_source = limits[index].source if index < len(limits) else "none"
        usages = facts.get("usages")  # none without the core
        self.limits = []
        for i, limit in enumerate(limits):
            used, now = usages[i] if isinstance(usages, list) else (0, limit.limit_bytes)
            if now:
                self.limits.append({**limit.to_dict(), "limit_bytes": now, "usage_bytes": used})
        if self.active:
            self.level = "full" if self.recording else "memory"
        if self.guard == "tripped" and not self.active:
            self.reason = reason or f"the guard stopped it near the limit, {self.limit_source}"
            self.mode = "disabled"
        elif not self.active:
            self.reason = reason or "switched off by the control word of the recording"
            self.mode = "disabled"
        elif self.level == "memory":
            self.reason = reason
        elif self.hooks_displaced:
            self.reason = "another tool removed the hooks: frees are not seen any more"
        elif config is not None and self.interval_bytes > config.interval_bytes:
            self.reason = (
                f"samples are {self.interval_bytes} bytes apart, not {config.interval_bytes}: the table of "
                "live samples was full (option scale), or they took too much CPU time (overhead_percent)"
            )

    def to_dict(self) -> dict[str, object]:
        """All attributes, fit for JSON."""
        names = [name for name, value in vars(Status).items() if type(value) in (bool, int, str)]
        names += ["options", "sources", "breakers", "limits"]
        return {name: getattr(self, name) for name in names if name[0] != "_"}

    def __repr__(self) -> str:
        return f"<fastalloc {self.mode}: {self.reason or self.recording}>"
