"""A span that is renamed takes along what it has counted: its own labels, and no other span's."""

from __future__ import annotations

import fastalloc
from tests.core.programs import Programs
from tests.core.scopes import BLOCK, phases, records, run


def test_what_was_counted_under_the_first_name_moves_to_the_second(programs: Programs) -> None:
    snapshot = run(
        programs,
        """
with span("unrouted") as current:
    blocks(1)
    with phase("closed"): blocks(2)
    with phase("closed"): blocks(4)
    with phase("open"):
        blocks(8)
        with phase("inner"):
            blocks(16)
            current.rename("GET /orders/{id}/")
            blocks(32)
        blocks(64)
    with phase("later"): blocks(128)
    blocks(256)
current.rename("too late")
""",
    )
    assert records(snapshot) == {"GET /orders/{id}/": [511]}
    route = "GET /orders/{id}/"
    got = {key: blocks for key, blocks in phases(snapshot).items() if key[0]}
    assert got == {
        (route, route): 1 + 256,
        (route, "closed"): 2 + 4,
        (route, "open"): 8 + 64,
        (route, "inner"): 16 + 32,
        (route, "later"): 128,
        **{("unrouted", name): 0 for name in ("unrouted", "closed", "open", "inner")},
    }
    entered = {(str(p["span_name"]), str(p["name"])): int(p["entered"]) for p in snapshot.phases}
    assert entered[route, "closed"] == 2 and entered[route, "inner"] == 1
    assert not any(count for (name, _), count in entered.items() if name == "unrouted")
    assert sum(int(p["bytes"]) for p in snapshot.phases) == snapshot.total_bytes


def test_live_samples_follow_the_span_and_those_freed_before_do_not(programs: Programs) -> None:
    done = programs.run(
        """
import fastalloc
from fastalloc import span, phase
from tests.core.inside import *
fastalloc.start(mode="targeted")
def keep(millions): return bytearray(millions * 1_000_000)
with span("unrouted") as current:
    outside = keep(1)
    with phase("closed"): closed, freed = keep(2), keep(4)
    with phase("open"):
        before = keep(8)
        current.rename("GET /a")
        after = keep(16)
with span("unrouted"):
    other = keep(32)
    with phase("open"): inside = keep(64)
del freed                                               # from here on below the high-water mark
late = keep(1)
fastalloc.stop()
"""
    )
    snapshot = done.snapshot()
    millions = {
        (str(p["span_name"]), str(p["name"])): [
            round(int(p[held]) / 1e6) for held in ("live_bytes", "high_water_bytes")
        ]
        for p in snapshot.phases
        if p["span_name"]
    }
    assert millions == {
        ("GET /a", "GET /a"): [1, 1],
        ("GET /a", "closed"): [2, 2],
        ("GET /a", "open"): [24, 24],
        ("unrouted", "unrouted"): [32, 32],
        ("unrouted", "closed"): [0, 4],
        ("unrouted", "open"): [64, 64],
    }
    held = dict.fromkeys(range(len(snapshot.phases)), 0)
    for sample in snapshot.live[snapshot.live["domain"] != 3]:
        held[int(sample["phase"])] += int(sample["weight"])
    assert held == dict(enumerate(snapshot.phases["live_bytes"].tolist()))
    assert snapshot.phases["samples"].sum() == (snapshot.live["domain"] != 3).sum()
    rows = {row.key: round(row.live_bytes / 1e6) for row in snapshot.top(group="phase")}
    assert rows["GET /a > open"] == 24 and rows["unrouted"] == 32


def test_other_spans_of_the_first_name_keep_theirs(programs: Programs) -> None:
    snapshot = run(
        programs,
        """
def work(count):
    blocks(count)
    with phase("app"): blocks(count)
with span("unrouted") as kept:
    work(1)
    with span("unrouted"):                              # inside, and a span of its own
        work(2)
        kept.rename("GET /a")
        work(4)
    with span("unrouted"): work(8)
""",
    )
    got = phases(snapshot)
    assert got["GET /a", "GET /a"] == got["GET /a", "app"] == 1
    assert got["unrouted", "unrouted"] == got["unrouted", "app"] == 2 + 4 + 8


def test_phases_in_other_threads_and_tasks_come_along(programs: Programs) -> None:
    snapshot = run(
        programs,
        """
import asyncio
async def main():
    with span("unrouted") as current:
        renamed, began = asyncio.Event(), asyncio.Event()
        in_thread, go_on = threading.Event(), threading.Event()
        async def child():
            with phase("task"):
                blocks(1)
                began.set()
                await renamed.wait()
                blocks(2)
        def thread():
            with phase("thread"):
                blocks(4)
                in_thread.set()
                go_on.wait()
                blocks(8)
        task = asyncio.create_task(child())
        await began.wait()
        work = asyncio.create_task(asyncio.to_thread(thread))
        await asyncio.sleep(0)
        in_thread.wait()
        current.rename("GET /a")
        renamed.set(); go_on.set()
        await task; await work
asyncio.run(main())
""",
    )
    got = phases(snapshot, of=lambda size: size // BLOCK)
    assert got["GET /a", "task"] == 3 and got["GET /a", "thread"] == 12
    assert got["unrouted", "task"] == got["unrouted", "thread"] == 0
    assert sum(int(p["bytes"]) for p in snapshot.phases) == snapshot.total_bytes


def test_of_many_labels_the_first_move_and_none_is_lost(programs: Programs) -> None:
    snapshot = run(
        programs,
        """
with span("unrouted") as current:
    for n in range(9):
        with phase(f"phase {n}"): blocks(1)
    current.rename("GET /a")
    current.rename("GET /b")
""",
    )
    got = phases(snapshot)
    assert [got["GET /b", f"phase {n}"] for n in range(6)] == [1] * 6
    assert [got["unrouted", f"phase {n}"] for n in range(6, 9)] == [1] * 3


def test_samples_stay_with_the_counts_where_the_span_has_no_such_label(programs: Programs) -> None:
    snapshot = run(
        programs,
        """
kept = []
with span("unrouted") as current:
    for n in range(9):
        with phase(f"phase {n}"): kept.append(bytearray(20_000_000))
    current.rename("GET /a")
""",
    )
    spans = {
        str(p["name"]): str(p["span_name"]) for p in snapshot.phases if p["live_bytes"] > 10_000_000
    }
    assert spans == {f"phase {n}": "GET /a" if n < 6 else "unrouted" for n in range(9)}


def test_a_forked_child_moves_only_what_it_has_counted_itself(programs: Programs) -> None:
    done = programs.run(
        """
import os
import fastalloc
from fastalloc import span, phase
from tests.core.inside import *
def blocks(count): library.churn(RAW, 1_000_000, count)
fastalloc.start()
with span("unrouted") as current, phase("app"):
    blocks(1)
    pid = os.fork()
    if not pid:
        with span("child"): pass                        # brings it a recording of its own
    blocks(2)
    current.rename("GET /child" if not pid else "GET /parent")
    blocks(4)
    if pid: os.waitpid(pid, 0)
fastalloc.stop()
"""
    )
    found = {}
    for path in done.directory.glob("*.recording"):
        snapshot = fastalloc.read(path)
        assert sum(int(p["bytes"]) for p in snapshot.phases) == snapshot.total_bytes
        for p in snapshot.phases:
            if str(p["name"]) == "app":
                found[str(p["span_name"])] = (int(p["entered"]), int(p["bytes"]) // 1_000_000)
    assert found["GET /parent"] == (1, 7)
    assert found["GET /child"] == (0, 6)
