"""`make bench`: the workloads with pytest-benchmark, recorded and not, and what recording costs each.

A quick look, in this interpreter alone: one process, one group per workload. docs/benchmarks.md is made by processes
that take turns (`make bench-docs`). A workload whose packages `.venv` lacks is skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import fastalloc
from benchmarks.workloads import WORKLOADS

MODES = ("none", "standby", "light", "aggressive")
ONCE_IN_A_PROCESS = ("django_template", "django_request", "fastapi_request", "async_tree")
"""They configure a framework or start a server: one of them, once."""
QUICK = [name for name in WORKLOADS if name not in ONCE_IN_A_PROCESS]


@pytest.fixture(scope="module")
def works() -> dict[str, Callable[[], object]]:
    """Prepared workloads, by name."""
    return {}


@pytest.fixture
def work(name: str, works: dict[str, Callable[[], object]]) -> Callable[[], object]:
    """A workload, prepared once."""
    if name not in works:
        try:
            works[name] = WORKLOADS[name]()
        except ImportError as error:
            pytest.skip(str(error))
    return works[name]


@pytest.fixture
def recorded(mode: str, tmp_path: Any) -> Iterator[None]:
    """The recorder in `mode`, or nothing."""
    if mode != "none":
        fastalloc.start(mode, dir=str(tmp_path), overhead_percent=0)
        assert fastalloc.status().active, fastalloc.status().reason
    yield
    fastalloc.stop()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", QUICK)
def test_time(
    name: str, mode: str, work: Callable[[], object], recorded: None, benchmark: Any
) -> None:
    benchmark.group = name
    benchmark(work)


@pytest.mark.parametrize("name", QUICK)
def test_overhead(name: str, work: Callable[[], object], fastalloc_overhead: Any) -> None:
    overhead = fastalloc_overhead(work)
    print(
        f"\n{name}: light over none {overhead.ratio:.3f} ({overhead.low:.3f} to {overhead.high:.3f}; noise "
        f"{overhead.noise:.3f}), {overhead.allocated_bytes:,} bytes a call, {overhead.peak_bytes:,} at most"
    )
    assert overhead.ratio < 2
