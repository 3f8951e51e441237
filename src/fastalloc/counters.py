"""What is known without the compiled core: the memory that the kernel counts.

The lowest level that still says something: `status()` shows these where nothing can be recorded.
"""

from __future__ import annotations

import os

from fastalloc import limits


def read() -> dict[str, object]:
    """As much of Status as can be told. Some 0.1 ms. Never raises."""
    try:
        found = limits.find(0)
        return {
            "pid": os.getpid(),
            "rss_bytes": _rss_bytes(),
            "cgroup_bytes": _number(limits.own_cgroup().usage_path),
            "limit_bytes": found[0].limit_bytes if found else 0,
        }
    except Exception:  # a /proc or /sys of another kind
        return {}


def _rss_bytes() -> int:
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    except (OSError, ValueError, IndexError):
        return 0


def _number(path: str) -> int:
    try:
        with open(path, "rb") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0
