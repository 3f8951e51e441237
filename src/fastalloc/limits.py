"""The memory limit that this process runs under, and the file that tells the usage it limits."""

from __future__ import annotations

import os

_NO_LIMIT = 1 << 60  # cgroup v1 writes "none" as a number near 2**63


_LIMITS = {1: ("memory.limit_in_bytes",), 2: ("memory.max", "memory.high")}
_OOM_EVENTS = {1: "memory.oom_control", 2: "memory.events"}
_RLIMITS = (
    ("Max address space ", "RLIMIT_AS", "address_space"),
    ("Max data size ", "RLIMIT_DATA", "data"),
)
_USAGES = {1: "memory.usage_in_bytes", 2: "memory.current"}


_HIERARCHICAL = "hierarchical_memory_limit"

KINDS = ("resident", "cgroup", "address_space", "data", "machine")  # as enum fa_limit_kind
MOST = 12  # limits that are watched, FA_LIMITS


class Limit:
    """A limit on memory, or a place where there may be one later. limit_bytes, 0: none at present. source: where it comes from, such as the file or "RLIMIT_AS". kind:
    what is compared with it, one of KINDS: "resident", what the process has in memory; "cgroup", the usage of
    that cgroup with all that are below it, less the page cache it can drop; "address_space", all that the process
    has mapped; "data", its private writable mappings; "machine", what the whole machine uses and cannot drop.
    usage_path: the file that tells it, of a cgroup and the machine. path: that with a cgroup's limit."""

    __slots__ = ("kind", "limit_bytes", "source", "usage_path")

    def __init__(self, limit_bytes: int, source: str, kind: str, usage_path: str = "") -> None:
        self.limit_bytes, self.source = limit_bytes, source
        self.kind, self.usage_path = kind, usage_path

    @property
    def path(self) -> str:
        return self.source if self.kind == "cgroup" else ""

    def to_dict(self) -> dict[str, object]:
        """Fit for JSON."""
        return {"limit_bytes": self.limit_bytes, "source": self.source, "kind": self.kind}


def find(configured: int = 0, proc: str = "/proc/self") -> list[Limit]:
    """The smallest limits, smallest first: `configured`, those of each memory cgroup up to the root,
    RLIMIT_AS, RLIMIT_DATA, MemTotal; then the places of those that are not set. About 0.3 ms. proc: where the
    kernel describes this process."""
    found = [Limit(configured, "memory_limit_bytes", "resident")] if configured else []
    cgroups = _cgroups(proc)
    for folder, version in cgroups:
        for name in _LIMITS[version]:
            path = f"{folder}/{name}"
            if os.path.exists(path):  # the root of v2 has none
                value = _finite(_read_number(path))
                found.append(Limit(value, path, "cgroup", f"{folder}/{_USAGES[version]}"))
    found += _of_hidden_ancestors(cgroups)
    found += [Limit(value, name, kind) for value, name, kind in _resource_limits(proc)]
    total = _mem_total()
    if total:
        found.append(Limit(total, "MemTotal", "machine", "/proc/meminfo"))
    found.sort(key=_limit_bytes)
    return found[:MOST]


def _of_hidden_ancestors(cgroups: list[tuple[str, int]]) -> list[Limit]:
    """In a cgroup namespace the cgroups above its root cannot be seen. v1 tells of the smallest limit among
    them, and it is compared with the usage of the highest that can be seen."""
    folders = [folder for folder, version in cgroups if version == 1]
    if not folders:
        return []
    folder = folders[-1]
    own = _finite(_read_number(f"{folder}/{_LIMITS[1][0]}"))
    try:
        with open(f"{folder}/memory.stat", encoding="utf-8") as file:
            lines = dict(line.split() for line in file)
        value = _finite(int(lines[_HIERARCHICAL]))
    except (OSError, ValueError, KeyError):
        return []
    if not value or 0 < own <= value:
        return []
    return [Limit(value, f"{folder}/memory.stat", "cgroup", f"{folder}/{_USAGES[1]}")]


def _finite(value: int) -> int:
    return value if 0 < value < _NO_LIMIT else 0


class OwnCgroup:
    """The memory cgroup that this process itself is in. folder: where it is seen; "": nowhere.
    id: number of the folder, which no other cgroup has until the next boot. oom_events_path: the
    file in which the kernel counts whom it has killed there for memory. usage_path: the file with its usage."""

    __slots__ = ("folder", "id", "oom_events_path", "usage_path")

    def __init__(self, folder: str, id: int, oom_events_path: str, usage_path: str) -> None:
        self.folder, self.id = folder, id
        self.oom_events_path, self.usage_path = oom_events_path, usage_path


def own_cgroup(proc: str = "/proc/self") -> OwnCgroup:
    """About 0.2 ms."""
    cgroups = _cgroups(proc)
    if not cgroups:
        return OwnCgroup("", 0, "", "")
    folder, version = cgroups[0]
    try:
        number = os.stat(folder).st_ino
    except OSError:
        number = 0
    return OwnCgroup(
        folder, number, f"{folder}/{_OOM_EVENTS[version]}", f"{folder}/{_USAGES[version]}"
    )


def _limit_bytes(limit: Limit) -> int:
    return limit.limit_bytes or _NO_LIMIT


def _cgroups(proc: str) -> list[tuple[str, int]]:
    """(folder, version) of this process's memory cgroup and all above it, own first."""
    try:
        with open(f"{proc}/cgroup", encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return []
    mounts = _cgroup_mounts(proc)
    found = []
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "memory" in controllers.split(",") and 1 in mounts:
            found += _ancestry(mounts[1], path, 1)
        elif number == "0" and not controllers and 2 in mounts:
            found += _ancestry(mounts[2], path, 2)
    return found


def _ancestry(mount: tuple[str, str], path: str, version: int) -> list[tuple[str, int]]:
    folder, root = mount
    # Inside a container the mount shows only the part of the hierarchy below `root`.
    below = path[len(root.rstrip("/")) :] if path.startswith(root) else path
    parts = [part for part in below.split("/") if part and part != ".."]
    candidates = ["/".join([folder, *parts[:depth]]) for depth in range(len(parts), -1, -1)]
    return [(candidate, version) for candidate in candidates if os.path.isdir(candidate)]


def _cgroup_mounts(proc: str) -> dict[int, tuple[str, str]]:
    """Version -> (mount point, root of the hierarchy it shows)."""
    mounts: dict[int, tuple[str, str]] = {}
    try:
        with open(f"{proc}/mountinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                left, _, right = line.partition(" - ")
                kind, _, options = right.partition(" ")
                options = options.partition(" ")[2]
                fields = left.split()
                if kind == "cgroup2":
                    mounts.setdefault(2, (fields[4], fields[3]))
                elif kind == "cgroup" and "memory" in options.strip().split(","):
                    mounts.setdefault(1, (fields[4], fields[3]))
    except (OSError, IndexError):
        pass
    return mounts


def _read_number(path: str) -> int:
    """The number in a file; 0 when there is none ("max") or it cannot be read."""
    try:
        with open(path, encoding="utf-8") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0


def _resource_limits(proc: str) -> list[tuple[int, str, str]]:
    # Not by the module resource: a library to load into every service, for two numbers.
    found = []
    try:
        with open(f"{proc}/limits", encoding="utf-8", errors="replace") as file:
            for line in file:
                for title, name, kind in _RLIMITS:
                    if line.startswith(title):
                        soft = line.removeprefix(title).split()[0]
                        found.append((int(soft) if soft.isdigit() else 0, name, kind))
    except (OSError, IndexError):
        pass
    return found


def _mem_total() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0
