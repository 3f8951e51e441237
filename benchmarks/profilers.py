"""The profilers that are compared, each set as one would run it in production.

Runs in the measured process. `start` of a profiler may raise ImportError: it is not installed.
"""

from __future__ import annotations

import os
from collections.abc import Callable

INTERVAL_BYTES = 512 * 1024
"""The same for all that sample, but for fastalloc's aggressive mode."""


class Profiler:
    """A row of the table. `slow` ones get fewer rounds."""

    def __init__(
        self,
        name: str,
        title: str,
        start: Callable[[str], None],
        package: str = "",
        slow: bool = False,
    ) -> None:
        self.name, self.title, self.start = name, title, start
        self.package, self.slow = package, slow


def _none(scratch: str) -> None:
    pass


def _fastalloc(mode: str, **options: object) -> Callable[[str], None]:
    def start(scratch: str) -> None:
        import fastalloc

        fastalloc.start(mode, dir=os.path.join(scratch, "recordings"), **options)
        if mode != "disabled" and not fastalloc.status().active:
            raise RuntimeError(f"fastalloc is not recording: {fastalloc.status().reason}")

    return start


def _forward(small_frees_stay: bool) -> Callable[[str], None]:
    """Hooks that do nothing: the floor, see forward.c."""

    def start(scratch: str) -> None:
        import forward  # type: ignore[import-not-found, unused-ignore]

        forward.install(small_frees_stay)

    return start


def _ddtrace(scratch: str) -> None:
    """Its heap profiler alone: no tracer, no exporter thread, no upload."""
    os.environ["DD_PROFILING_HEAP_SAMPLE_SIZE"] = str(INTERVAL_BYTES)
    os.environ["DD_INSTRUMENTATION_TELEMETRY_ENABLED"] = "false"
    from ddtrace.profiling.collector.memalloc import (  # type: ignore[import-not-found, unused-ignore]
        MemoryCollector,
    )

    MemoryCollector(heap_sample_size=INTERVAL_BYTES).start()


def _memray(python_allocators: bool = False) -> Callable[[str], None]:
    def start(scratch: str) -> None:
        import memray

        tracker = memray.Tracker(
            os.path.join(scratch, f"memray-{os.getpid()}.bin"),
            trace_python_allocators=python_allocators,
        )
        tracker.__enter__()

    return start


def _tracemalloc(scratch: str) -> None:
    import tracemalloc

    tracemalloc.start(1)


PROFILERS = {
    profiler.name: profiler
    for profiler in (
        Profiler("none", "none", _none),
        Profiler("control", "none, again (the noise)", _none),
        Profiler("forward", "hooks as ours that only forward", _forward(True)),
        Profiler("forward_all", "hooks on all that only forward", _forward(False)),
        Profiler("disabled", "fastalloc disabled (imported)", _fastalloc("disabled")),
        Profiler("standby", "fastalloc standby", _fastalloc("standby")),
        Profiler("light", "fastalloc light, 512 KiB", _fastalloc("light")),
        Profiler("aggressive", "fastalloc aggressive, 64 KiB", _fastalloc("aggressive")),
        Profiler("ddtrace", "ddtrace heap, 512 KiB", _ddtrace, "ddtrace"),
        Profiler("memray", "memray", _memray(), "memray", slow=True),
        Profiler(
            "memray_python",
            "memray, Python allocators",
            _memray(python_allocators=True),
            "memray",
            slow=True,
        ),
        Profiler("tracemalloc", "tracemalloc, 1 frame", _tracemalloc, slow=True),
    )
}
