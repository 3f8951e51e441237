"""The memory limit that this process runs under, and the file that tells its cgroup's usage."""

from __future__ import annotations

import os

_NO_LIMIT = 1 << 60  # cgroup v1 writes "none" as a number near 2**63


def cgroup_usage_path() -> str:
    """File with the usage in bytes of this process's memory cgroup; "" where there is none."""
    for folder, version in _cgroups():
        path = f"{folder}/" + ("memory.current" if version == 2 else "memory.usage_in_bytes")
        if os.path.exists(path):
            return path
    return ""


def find(configured: int = 0) -> tuple[int, str]:
    """(smallest limit in bytes, where it comes from).

    Considered: `configured`, each memory cgroup up to the root, RLIMIT_AS, RLIMIT_DATA, MemTotal.
    (0, "none") when nothing can be read. About 0.2 ms.
    """
    found = [(configured, "memory_limit_bytes")] if configured else []
    found += _cgroup_limits()
    found += _resource_limits()
    total = _mem_total()
    if total:
        found.append((total, "MemTotal"))
    return min(found, default=(0, "none"))


def _cgroups() -> list[tuple[str, int]]:
    """(folder, version) of this process's memory cgroup and all above it, own first."""
    try:
        with open("/proc/self/cgroup") as file:
            lines = file.read().splitlines()
    except OSError:
        return []
    mounts = _cgroup_mounts()
    found = []
    for line in lines:
        number, controllers, path = line.split(":", 2)
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


def _cgroup_mounts() -> dict[int, tuple[str, str]]:
    """Version -> (mount point, root of the hierarchy it shows)."""
    mounts: dict[int, tuple[str, str]] = {}
    try:
        with open("/proc/self/mountinfo") as file:
            for line in file:
                left, _, right = line.partition(" - ")
                kind, _, options = right.split(" ", 2)
                fields = left.split()
                if kind == "cgroup2":
                    mounts.setdefault(2, (fields[4], fields[3]))
                elif kind == "cgroup" and "memory" in options.strip().split(","):
                    mounts.setdefault(1, (fields[4], fields[3]))
    except (OSError, ValueError):
        pass
    return mounts


def _cgroup_limits() -> list[tuple[int, str]]:
    names = {1: ("memory.limit_in_bytes",), 2: ("memory.max", "memory.high")}
    found = []
    for folder, version in _cgroups():
        for name in names[version]:
            try:
                with open(f"{folder}/{name}") as file:
                    value = int(file.read())  # "max" is no number
            except (OSError, ValueError):
                continue
            if 0 < value < _NO_LIMIT:
                found.append((value, f"{folder}/{name}"))
    return found


def _resource_limits() -> list[tuple[int, str]]:
    import resource

    found = []
    for name in ("RLIMIT_AS", "RLIMIT_DATA"):
        soft, _ = resource.getrlimit(getattr(resource, name))
        if soft != resource.RLIM_INFINITY:
            found.append((soft, name))
    return found


def _mem_total() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0
