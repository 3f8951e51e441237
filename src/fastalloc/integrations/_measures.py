"""What both kinds of metrics measure, under one set of names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from fastalloc.requests import Request

# Of a request's peak: from what a light page takes to what brings a worker down.
BUCKETS_BYTES = tuple(float(1 << power) for power in range(16, 34, 2))  # 64 KiB to 4 GiB


class Measure(NamedTuple):
    """A metric: OpenTelemetry's name and unit, what Prometheus calls it, and what it is."""

    name: str
    unit: str
    prometheus_name: str
    help: str


LIVE = Measure(
    "fastalloc.heap.live",
    "By",
    "fastalloc_heap_live_bytes",
    "Live heap by allocator domain, estimated from samples.",
)
UTILIZATION = Measure(
    "fastalloc.memory.limit.utilization",
    "1",
    "fastalloc_memory_limit_utilization_ratio",
    "Memory usage as a part of the limit in force.",
)
DELTA = Measure(
    "fastalloc.request.memory.delta",
    "By",
    "fastalloc_request_memory_delta_bytes",
    "The most that a request's own blocks held at once, estimated from samples.",
)
DUMPS = Measure("fastalloc.dumps", "{dump}", "fastalloc_dumps_total", "Dumps written.")
OVERHEAD = Measure(
    "fastalloc.overhead.cpu",
    "s",
    "fastalloc_overhead_cpu_seconds_total",
    "CPU time spent recording samples.",
)


def utilization(now: dict[str, Any]) -> float | None:
    """Usage by limit, of what gauges.read() gave; None where no limit is known."""
    limit = now["limit_bytes"]
    return now["usage_bytes"] / limit if limit else None


def route_and_task(request: Request) -> tuple[str, str]:
    """(route without the method, "") of a request of the web, ("", name) of a task or job."""
    if request.kind in ("http", "websocket"):
        return request.name.partition(" ")[2] or request.name, ""
    return "", request.name
