"""The recorder's present numbers, as metrics and logs show them."""

from __future__ import annotations

try:
    from fastalloc import _core
except ImportError:
    _core = None  # type: ignore[assignment]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# enum fa_domain, without arenas: these are not blocks of the program
_DOMAINS = (("raw", 0), ("mem", 1), ("obj", 2), ("malloc", 4), ("mmap", 5))


def read() -> dict[str, Any]:
    """live_bytes: a dict by domain (raw, mem, obj, malloc, mmap), estimated. rss_bytes. usage_bytes: of
    the cgroup whose limit is in force, else resident. limit_bytes, 0: none is known. dumps. own_cpu_ns.
    recording: its path. Zeros and "" before the first start. Some 20 us."""
    state = _core.state() if _core is not None else {}
    live = _core.live_by_domain() if state else [0] * 6
    return {
        "live_bytes": {name: live[domain] for name, domain in _DOMAINS},
        "rss_bytes": state.get("rss_bytes", 0),
        "usage_bytes": state.get("limit_usage_bytes") or state.get("rss_bytes", 0),
        "limit_bytes": state.get("limit_bytes", 0),
        "dumps": _core.header()["dumps"] if state else 0,
        "own_cpu_ns": state.get("own_cpu_ns", 0),
        "recording": str(state.get("recording", "")),
    }
