"""Hooks that only forward, where BENCHMARK_HOOKS names them: what any profiler of allocations costs a service at least."""

from __future__ import annotations

import os

if "BENCHMARK_HOOKS" in os.environ:
    from benchmarks.profilers import PROFILERS

    PROFILERS[os.environ["BENCHMARK_HOOKS"]].start("")
