"""The profilers that are compared, each set as one would run it in production.

Runs in the measured process. `start` of a profiler may raise ImportError: it is not installed.
"""

from __future__ import annotations

import os
from collections.abc import Callable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

INTERVAL_BYTES = 512 * 1024
"""The same for all that sample, but for fastalloc's aggressive mode."""
FRAMES = 64
"""Kept of a stack by all that sample: ddtrace's default, which is the lowest. Of memray and Fil there is no limit to set;
scalene has lines, and no stacks."""

WITHOUT_LIVE_HEAP = {
    "scalene": "its report has averages and peaks, not the live heap",
    "fil": "its report has the peak, not the live heap",
}

in_spans = False
"""Whether the row measures spans too: around the work, and of each request where the work is a service's."""

kept: list[Any] = []
"""Trackers that must be ended before their files can be read."""


class Profiler:
    """A row of the table. `slow` ones are measured in launches of their own, with few rounds; `command` starts the
    measured process, after the interpreter's name, where the profiler does that itself. `around` wraps the work."""

    def __init__(
        self,
        name: str,
        title: str,
        start: Callable[[str], None],
        package: str = "",
        slow: bool = False,
        command: Callable[[str], list[str]] | None = None,
        around: Callable[[Callable[[], object]], Callable[[], object]] = lambda work: work,
    ) -> None:
        self.name, self.title, self.start = name, title, start
        self.package, self.slow, self.around = package, slow, around
        self.starts_process = command is not None
        """It runs before the measured process can look at its own memory, so there is no "at start"."""
        self.command = command or (lambda scratch: ["-m", "benchmarks.worker"])


def _none(scratch: str) -> None:
    pass


def _thread(scratch: str) -> None:
    """What any second thread costs, though it never runs: the C library's malloc and mutexes lock for real from
    then on, and sqlite, for one, locks some thousand times per query. fastalloc's watcher is such a thread."""
    import threading

    threading.Thread(target=threading.Event().wait, daemon=True).start()


def _keep(scratch: str) -> None:
    """What a malloc does to the time that does not give large blocks back to the system at once, nor asks for them anew.
    Scalene preloads one, of its own."""
    import ctypes

    mmap_threshold, trim_threshold = -3, -1  # malloc.h
    mallopt = ctypes.CDLL(None).mallopt
    if not (mallopt(mmap_threshold, 32 << 20) and mallopt(trim_threshold, 1 << 30)):
        raise RuntimeError("mallopt refuses")


def _fastalloc(mode: str, **options: object) -> Callable[[str], None]:
    def start(scratch: str) -> None:
        import fastalloc

        options.setdefault("overhead_percent", 0)  # at the interval that was asked for; default: 1
        options.setdefault("max_frames", FRAMES)  # default: 128
        fastalloc.start(mode, dir=os.path.join(scratch, "recordings"), **options)
        if mode != "disabled" and not fastalloc.status().active:
            raise RuntimeError(f"fastalloc is not recording: {fastalloc.status().reason}")

    return start


def _spans(scratch: str) -> None:
    global in_spans
    in_spans = True
    _fastalloc("light")(scratch)


def _in_a_span(work: Callable[[], object]) -> Callable[[], object]:
    import fastalloc

    def inside() -> object:
        with fastalloc.span("GET /"):
            return work()

    return inside


def _forward(what: str) -> Callable[[str], None]:
    """Hooks that do nothing: the floor, see forward.c."""

    def start(scratch: str) -> None:
        import forward  # type: ignore[import-not-found, unused-ignore]

        forward.install(what)
        if what == "raw":
            _thread(scratch)

    return start


def _ddtrace(interval_bytes: int) -> Callable[[str], None]:
    """Its profiler with memory alone, no stacks by time and no locks, no tracer; for an agent that does not answer. Its
    threads are there, as in production, and would export once a minute."""

    def start(scratch: str) -> None:
        os.environ |= {
            "DD_PROFILING_HEAP_SAMPLE_SIZE": str(interval_bytes),
            "DD_PROFILING_MAX_FRAMES": str(FRAMES),
            "DD_PROFILING_STACK_ENABLED": "false",
            "DD_PROFILING_LOCK_ENABLED": "false",
            "DD_TRACE_ENABLED": "false",
            "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
            "DD_REMOTE_CONFIGURATION_ENABLED": "false",
            "DD_TRACE_AGENT_URL": "http://127.0.0.1:9",
        }
        from ddtrace.profiling import (  # type: ignore[import-not-found, unused-ignore]
            Profiler as Peer,
        )

        peer = Peer()
        peer.start()
        collectors = [type(each).__name__ for each in peer._profiler._collectors]
        if collectors != ["MemoryCollector"]:
            raise RuntimeError(f"ddtrace collects {collectors}")

    return start


def _pyroscope(scratch: str) -> None:
    """Its memory profiler alone; for a server that does not answer, unless PYROSCOPE_SERVER_ADDRESS names one."""
    import pyroscope  # type: ignore[import-not-found, unused-ignore]

    pyroscope.configure(
        application_name="benchmark",
        server_address=os.environ.get("PYROSCOPE_SERVER_ADDRESS", "http://127.0.0.1:9"),
        mem_enabled=True,
        mem_heap_sample_size=INTERVAL_BYTES,
        mem_max_nframe=FRAMES,  # default: 128
        cpu_enabled=False,
    )


def _memray(python_allocators: bool = False, aggregated: bool = False) -> Callable[[str], None]:
    def start(scratch: str) -> None:
        import memray

        path = os.path.join(scratch, f"memray-{os.getpid()}.bin")
        kind = "AGGREGATED_ALLOCATIONS" if aggregated else "ALL_ALLOCATIONS"
        tracker = memray.Tracker(
            destination=memray.FileDestination(path),
            trace_python_allocators=python_allocators,
            file_format=memray.FileFormat[kind],
        )
        tracker.__enter__()
        kept.append(tracker)

    return start


def _tracemalloc(frames: int) -> Callable[[str], None]:
    def start(scratch: str) -> None:
        import tracemalloc

        tracemalloc.start(frames)

    return start


def _scalene(scratch: str) -> list[str]:
    worker = os.path.join(os.path.dirname(__file__), "worker.py")
    return ["-m", "scalene", "run", "-o", os.path.join(scratch, "scalene.json"), worker, "---"]


def _fil(scratch: str) -> list[str]:
    return ["-m", "filprofiler", "-o", scratch, "--no-browser", "run", "-m", "benchmarks.worker"]


PROFILERS = {
    profiler.name: profiler
    for profiler in (
        Profiler("none", "none", _none),
        Profiler("control", "none, again (the noise)", _none),
        Profiler("thread", "none, with an idle thread", _thread),
        Profiler("keep", "none, malloc keeps what is freed", _keep),
        Profiler("forward", "hooks as ours that only forward", _forward("ours")),
        Profiler("forward_all", "hooks on all that only forward", _forward("all")),
        Profiler(
            "forward_raw",
            "an idle thread, hooks on RAW that only forward",
            _forward("raw"),
        ),
        Profiler("disabled", "fastalloc disabled (imported)", _fastalloc("disabled")),
        Profiler("standby", "fastalloc standby", _fastalloc("standby")),
        Profiler("light", "fastalloc light, 512 KiB", _fastalloc("light")),
        Profiler(
            "counters",
            "fastalloc light, no samples",
            _fastalloc("light", interval_bytes=1 << 40),
        ),
        Profiler(
            "shallow",
            "fastalloc light, 1 frame",
            _fastalloc("light", max_frames=1),
        ),
        Profiler("spans", "fastalloc light, in spans", _spans, around=_in_a_span),
        Profiler("native", "fastalloc light, native", _fastalloc("light", native=True)),
        Profiler("aggressive", "fastalloc aggressive, 64 KiB", _fastalloc("aggressive")),
        Profiler("ddtrace", "ddtrace heap, 512 KiB", _ddtrace(INTERVAL_BYTES), "ddtrace"),
        Profiler("ddtrace_1m", "ddtrace heap, 1 MiB", _ddtrace(1 << 20), "ddtrace"),
        Profiler("pyroscope", "Pyroscope memory, 512 KiB", _pyroscope, "pyroscope-io"),
        Profiler("memray", "memray", _memray(), "memray", slow=True),
        Profiler(
            "memray_aggregated", "memray, aggregated", _memray(aggregated=True), "memray", slow=True
        ),
        Profiler(
            "memray_python",
            "memray, Python allocators",
            _memray(python_allocators=True),
            "memray",
            slow=True,
        ),
        Profiler("scalene", "scalene", _none, "scalene", slow=True, command=_scalene),
        Profiler("fil", "Fil", _none, "filprofiler", slow=True, command=_fil),
        Profiler("tracemalloc", "tracemalloc, 1 frame", _tracemalloc(1), slow=True),
        Profiler("tracemalloc_25", "tracemalloc, 25 frames", _tracemalloc(25), slow=True),
    )
}
