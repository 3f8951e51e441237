"""What is done when a request ends: add it to its route, keep it where it is chosen or large, tell of
high memory usage. On the request's path are only sums and choices; the rest is the watcher's."""

from __future__ import annotations

import os
from time import time

from fastalloc import gauges, logs, profiler
from fastalloc.breaker import Breaker
from fastalloc.requests.choice import LARGEST_BYTES
from fastalloc.requests.log import RequestLog
from fastalloc.requests.routes import Routes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fastalloc.requests.request import Request

    Totals = tuple[int, int, int, int, int, int]
    """duration_ns, count and bytes, exact; live_change_bytes of the process, held_bytes and peak_bytes of
    the request's own blocks, from samples."""
    Listener = Callable[[Request, Totals], object]

ROUTES_SECONDS = 60.0
ROUTES_JOB = "routes of requests"
DIGEST_BYTES = 8 << 10
SAID_SECONDS, SAID_A_MINUTE = 60.0, 20

log = RequestLog()
_routes = Routes()
_said = logs.Limit(SAID_SECONDS, SAID_A_MINUTE)
_routes_scheduled = _exit_registered = False
_listening = Breaker("metrics of requests")
listeners: list[Listener] = []
"""Called with each request that ends and its totals, on its path: metrics."""


def ended(request: Request, is_among_largest: Callable[[int], bool]) -> None:
    """A request has ended, and its trackers have said what they have to say."""
    peak = _routes.of(request.name).add(request)
    if not _routes_scheduled:
        _schedule_routes()
    if listeners:
        totals = request.totals()
        for listener in listeners:
            _listening.call(listener, request, totals)
    if request.chosen or peak >= LARGEST_BYTES:
        keep(request, is_among_largest)


def keep(request: Request, is_among_largest: Callable[[int], bool]) -> None:
    """Keep it in the log where it is chosen or among the largest, and tell of high memory usage."""
    totals = request.totals()
    is_large = is_among_largest(totals[5])  # asked of a chosen one too: it counts among them
    kept = request.chosen or ("largest" if is_large else "")
    if kept:
        instant = time()
        log.add(lambda: summary(request, totals, kept, instant))
    high = profiler.option("high_request_bytes")
    if high and totals[5] >= high and _said.allows(request.name):
        from fastalloc import background  # needs the core, which is there when a request has ended

        background.soon(lambda: _tell(request, totals))


def listen(listener: Listener) -> None:
    """Call `listener(request, totals)` with each request that ends, on its path, under a breaker."""
    listeners.append(listener)
    _routes.all_are_told = True
    _routes.share()


def flush() -> None:
    """Write what waits for the log now: the process is about to end without telling. Never raises."""
    try:
        _write_routes()
        log.write()
    except Exception:
        pass


def forget() -> None:
    """In a forked child: what waits and what is added up is the parent's to tell."""
    global _routes, _said, _routes_scheduled
    log.forget()
    _routes, _said = Routes(bool(listeners)), logs.Limit(SAID_SECONDS, SAID_A_MINUTE)
    _routes_scheduled = False


def summary(request: Request, totals: Totals, kept: str, instant: float) -> dict[str, Any]:
    """A request's line of the log."""
    duration_ns, count, allocated, live_change, held, peak = totals
    line: dict[str, Any] = {
        "kind": "request",
        "time": round(instant, 3),
        "span": request.id,
        "name": request.name,
        "type": request.kind,
        "status": status_class(request.status),
        "kept": kept,
        "ms": round(duration_ns / 1e6, 3),
        "count": count,
        "bytes": allocated,
        "live_change_bytes": live_change,
        "held_bytes": held,
        "peak_bytes": peak,
        "rss_bytes": gauges.read()["rss_bytes"],
        "phases": [
            {
                "name": name,
                "entered": part.entered,
                "ms": round(part.duration_ns / 1e6, 3),
                "count": part.count,
                "bytes": part.bytes,
                "own_bytes": part.own_bytes,
                "live_change_bytes": part.live_change_bytes,
            }
            for name, part in tuple(request.phases.items())
        ],
    }
    if request.error:
        line["error"] = request.error
    if request.checkpoints:
        line["checkpoints"], line["largest_jump"] = _checkpoints(request)
    if request.digests:
        line["digests"] = {name: _bounded(content) for name, content in request.digests.items()}
    return line


def _checkpoints(request: Request) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """All of them, and the one before which most was allocated."""
    rows, before = [], 0
    largest = {"name": "", "bytes": -1}
    for name, totals in request.checkpoints:
        duration_ns, _, allocated, live_change, held, _ = totals
        rows.append(
            {
                "name": name,
                "ms": round(duration_ns / 1e6, 3),
                "bytes": allocated,
                "live_change_bytes": live_change,
                "held_bytes": held,
            }
        )
        if allocated - before > largest["bytes"]:  # type: ignore[operator]  # an int
            largest = {"name": name, "bytes": allocated - before}
        before = allocated
    return rows, largest


def _bounded(content: Any) -> Any:
    """A tracker's digest, or how long it was, where that is too long for a line."""
    import json

    length = len(json.dumps(content, default=str))
    return content if length <= DIGEST_BYTES else {"left_out_bytes": length}


def status_class(status: int | str) -> str:
    """ "2xx" of 204; texts as they are; "" where it is not known."""
    if isinstance(status, int):
        return f"{status // 100}xx" if 100 <= status < 600 else str(status or "")
    return str(status)[:40]


def _schedule_routes() -> None:
    global _exit_registered, _routes_scheduled
    import atexit

    from fastalloc import background

    if not _exit_registered:
        _exit_registered = True
        atexit.register(flush)
    _routes_scheduled = True
    background.every(ROUTES_SECONDS, _write_routes, ROUTES_JOB)


def _write_routes() -> None:
    line = _routes.take()
    if line is not None:
        log.add(lambda: line)


def _tell(request: Request, totals: Totals) -> None:
    duration_ns, _, _, _, held, peak = totals
    phases = tuple(request.phases.items())
    phase = max(phases, key=lambda item: item[1].own_bytes)[0] if phases else ""
    now = gauges.read()
    limit = now["limit_bytes"]
    held_back, _said.held_back = _said.held_back, 0
    logs.tell(
        "High memory usage",
        {
            "route": request.name,
            "phase": phase,
            "delta_bytes": peak,
            "held_bytes": held,
            "ms": round(duration_ns / 1e6, 3),
            "status": status_class(request.status),
            "rss_bytes": now["rss_bytes"],
            "limit_percent": round(100 * now["usage_bytes"] / limit, 1) if limit else None,
            "recording": os.path.basename(now["recording"]),
            "held_back": held_back,
        },
    )
