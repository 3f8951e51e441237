"""Reading is fast: `fastalloc top` polls a running process."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fastalloc.recording.layout import FUNCTION, LIVE, NODE, SITE, Region
from fastalloc.recording.reader import read
from tests.recording.synthetic import SyntheticRecording

NODES, SITES, SAMPLES, FUNCTIONS = 65536, 16384, 65536, 8192


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording with full tables."""
    random = np.random.default_rng(1)
    recording = SyntheticRecording()
    functions = np.zeros(FUNCTIONS, FUNCTION)
    for number in range(FUNCTIONS):
        functions[number]["name"] = recording.string(f"module.function_{number}")
        functions[number]["file"] = recording.string(f"/app/package/module_{number // 8}.py")
    nodes = np.zeros(NODES, NODE)
    index = np.arange(1, NODES)
    nodes["parent"][1:] = np.maximum(index - random.integers(1, 2000, NODES - 1), 0)
    nodes["function"][1:] = random.integers(1, FUNCTIONS, NODES - 1)
    nodes["line"] = random.integers(1, 500, NODES)
    sites = np.zeros(SITES, SITE)
    sites["node"][1:] = random.integers(1, NODES, SITES - 1)
    sites["domain"] = 2
    live = np.zeros(SAMPLES, LIVE)
    live["address"] = np.arange(SAMPLES) * 16 + 4096
    live["size"], live["weight"] = 100, 524288
    live["site"] = random.integers(0, SITES, SAMPLES)
    live["phase"], live["domain"] = 1, 2
    for region, table in (
        (Region.FUNCTIONS, functions),
        (Region.NODES, nodes),
        (Region.SITES, sites),
        (Region.LIVE, live),
    ):
        recording.tables[region] = list(table)
    return recording.write(tmp_path_factory.mktemp("speed") / "recording")


def fastest(work: Callable[[], object], times: int = 7) -> float:
    """Seconds of the fastest run: what the machine can do undisturbed."""
    seconds = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begun)
    return min(seconds)


def test_a_full_recording_is_read_in_less_than_50_ms(path: Path) -> None:
    assert path.stat().st_size > 6 << 20
    assert fastest(lambda: read(path)) < 0.05


@pytest.mark.parametrize("group", ["line", "site", "span", "module"])
def test_its_top_is_there_in_less_than_200_ms(path: Path, group: str) -> None:
    assert fastest(lambda: read(path).top(group=group)) < 0.2
