"""Standby hooks next to nothing, still names who grows the heap, and turns finer as usage climbs."""

from __future__ import annotations

from tests.core.programs import GIVES_BACK, Programs


def test_standby_records_arenas_and_large_blocks_by_line_and_no_small_ones(
    programs: Programs,
) -> None:
    done = programs.run(
        """
        import sys
        import fastalloc
        from tests.core.inside import *
        fastalloc.start("standby", interval_bytes=1000)
        def grow():
            return [bytes(200) for _ in range(60_000)]
        def large():
            return [bytes(100_000) for _ in range(50)]
        before = core.thread_totals()
        kept = grow(), large()
        fastalloc.stop()
        """
    )
    snapshot = done.snapshot()
    arenas = snapshot.live[snapshot.live["domain"] == 3]
    assert len(arenas) >= 10  # 12 MB in arenas of 256 KiB or 1 MiB
    assert 10_000_000 < arenas["weight"].sum() < 30_000_000
    leaves = {snapshot.stack(int(site))[0].function.split(".")[0] for site in arenas["site"]}
    assert "grow" in leaves
    # Arenas hold the small blocks; they are no blocks of their own.
    heap = snapshot.live[snapshot.live["domain"] != 3]
    assert snapshot.live_bytes == heap["weight"].sum()
    assert len(heap[heap["size"] == 233]) == 0
    large = heap[heap["size"] == 100_033]
    assert len(large) == 50
    assert snapshot.header["arena_bytes"] >= arenas["weight"].sum()


def test_standby_samples_large_blocks_an_eighth_as_often_as_light(programs: Programs) -> None:
    done = programs.run(
        """
        import fastalloc
        from tests.core.inside import *
        def churn():
            before = fastalloc.status().samples
            for _ in range(8192): bytes(64 << 10)
            return fastalloc.status().samples - before
        fastalloc.start("standby")
        standby, interval = churn(), fastalloc.status().interval_bytes
        fastalloc.configure({"mode": "light"})
        light, finer = churn(), fastalloc.status().interval_bytes
        answer(standby=standby, light=light, interval=interval, finer=finer)
        """
    )
    assert (done.answer["interval"], done.answer["finer"]) == (4 << 20, 512 << 10)
    # 512 MiB are 128 strata, or 1,024. A block at a border may have the events of two; an interval is taken up within 1 MiB;
    # the program itself allocates little beside it.
    assert 120 <= done.answer["standby"] <= 136
    assert 960 <= done.answer["light"] <= 1040


def test_arenas_given_back_are_no_longer_held(programs: Programs) -> None:
    done = programs.run(
        """
        import gc
        import fastalloc
        from tests.core.inside import *
        fastalloc.start("standby")
        def arenas(): return sum(s.weight for s in live().values() if s.domain == 3)
        held = []
        for _ in range(3):
            kept = [bytes(200) for _ in range(60_000)]
            held.append(arenas())
            del kept
            gc.collect()
            held.append(arenas())
        answer(held=held)
        """
    )
    held = done.answer["held"]
    assert all(full > 8_000_000 for full in held[::2])
    assert all(empty < full / 2 for full, empty in zip(held[::2], held[1::2], strict=True))


def test_standby_climbs_with_the_usage_and_goes_back(programs: Programs) -> None:
    done = programs.run(
        """
        import time
        import fastalloc
        from tests.core.inside import *
        def rss(): return int(open("/proc/self/statm").read().split()[1]) * 4096
        limit = rss() + 400_000_000
        fastalloc.start("standby", memory_limit_bytes=limit)
        seen, kept = [], []
        def settle(want):
            # Usage is looked at by samples, at most once a second.
            for _ in range(60):
                for _ in range(20): churned = bytes(1_000_000)
                with fastalloc.span("work"): pass
                if fastalloc.status().mode == want: break
                time.sleep(0.1)
            seen.append(fastalloc.status().mode)
        def use(share):
            while rss() + 10_000_000 < share * limit: kept.append(b"x" * 10_000_000)
            while rss() > share * limit: kept.pop()
        for share, want in ((0.3, "standby"), (0.68, "light"), (0.88, "aggressive"),
                            (0.6, "light"), (0.3, "standby")):
            use(share)
            settle(want)
        fastalloc.stop()
        answer(seen=seen)
        """,
        env=GIVES_BACK,
    )
    assert done.answer["seen"] == ["standby", "light", "aggressive", "light", "standby"]
    events = done.snapshot().events
    assert list(events["kind"]).count("mode") == 4
