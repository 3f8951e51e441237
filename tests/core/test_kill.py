"""SIGKILL at any moment: the recording opens, and its numbers agree."""

from __future__ import annotations

import os
import random
import signal
import time

import numpy as np
import pytest

import fastalloc
from tests.core.programs import Programs

LOAD = """
import json, sys, threading, time, zlib
sys.setswitchinterval(0.0005)
import fastalloc
from tests.core.inside import *
fastalloc.start(interval_bytes=INTERVAL, scale=2)
print("ready", flush=True)
def requests(index):
    kept = []
    for n in range(10**9):
        with fastalloc.span(f"route {n % 7}", n=n):
            with fastalloc.phase("render"):
                text = json.dumps([{"a": i, "b": "x" * (i % 300)} for i in range(50)])
            fastalloc.checkpoint("rendered")
            kept.append(bytearray(n % 30_000))
        if len(kept) > 300: del kept[:200]
def raw():
    while True: library_without_gil.storm(RAW, 3, 10_000)
def comers():
    while True:
        thread = threading.Thread(target=library.churn, args=(OBJ, 100, 100))
        thread.start(); thread.join()
def modes():
    while True:
        for interval in (INTERVAL, INTERVAL * 3):
            fastalloc.configure({"interval_bytes": interval})
            time.sleep(0.003)
for work in ((requests, 1), (requests, 2), (raw,), (comers,), (modes,)):
    threading.Thread(target=work[0], args=work[1:], daemon=True).start()
time.sleep(60)
"""


def assert_numbers_agree(snapshot: fastalloc.Snapshot) -> None:
    """What must hold in any file of a killed process; `repaired` ones were added up by the reader."""
    assert snapshot.state == "killed"
    assert snapshot.consistent or snapshot.repaired
    live = snapshot.live
    heap = live["domain"] != 3
    assert snapshot.live_bytes == live["weight"][heap].sum()
    assert len(np.unique(live["address"])) == len(live)
    assert (live["weight"] >= live["size"]).all()
    for table, key in (("sites", "site"), ("spans", "span"), ("phases", "phase")):
        held = getattr(snapshot, table)["live_bytes"]
        sums = np.bincount(live[key], live["weight"], len(held))
        assert (held == sums.astype(held.dtype)).all(), table
    assert snapshot.high_water_bytes >= snapshot.live_bytes
    if snapshot.consistent:
        assert snapshot.phases["count"].sum() == snapshot.total_count
        assert snapshot.phases["bytes"].sum() == snapshot.total_bytes
        numbers = np.concatenate([snapshot.records["sequence"], snapshot.checkpoints["sequence"]])
        numbers = np.sort(numbers.astype(np.int64))  # of one ring, without a gap up to the last
        assert (np.diff(numbers) == 1).all()
        ended = snapshot.records["time_ns"]
        assert (ended >= snapshot.records["start_ns"]).all()
    for row in snapshot.top(group="line", limit=20):
        assert row.live_bytes + row.high_water_bytes > 0
    for site in np.unique(live["site"]):
        if site and snapshot.sites["node"][site]:
            assert snapshot.stack(int(site))
    assert snapshot.to_dict()["live_bytes"] == snapshot.live_bytes


@pytest.mark.parametrize("times", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_a_kill_at_a_random_moment_leaves_a_whole_recording(programs: Programs, times: int) -> None:
    moments = random.Random(times)
    repaired = 0
    for first in range(0, times, 4):
        running = []
        for n in range(first, min(first + 4, times)):
            interval = (1000, 20_000, 524288)[n % 3]
            process = programs.start(LOAD.replace("INTERVAL", str(interval)))
            running.append((process, moments.uniform(0.05, 0.6)))
        for process, _ in running:
            assert process.stdout.readline() == "ready\n", process.stderr.read()
        begin = time.monotonic()
        for process, moment in sorted(running, key=lambda pair: pair[1]):
            time.sleep(max(0, begin + moment - time.monotonic()))
            os.kill(process.pid, signal.SIGKILL)
        for process, _ in running:
            assert process.wait() == -signal.SIGKILL
            process.stdout.close(), process.stderr.close()
            (path,) = process.directory.glob("*.recording")
            snapshot = fastalloc.read(path)
            assert_numbers_agree(snapshot)
            repaired += snapshot.repaired
    # Most kills strike outside the few instructions under the lock.
    assert repaired <= times / 2
