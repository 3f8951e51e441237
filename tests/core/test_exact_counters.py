"""Every allocation is counted once, with its exact size, in whatever domain it is made."""

from __future__ import annotations

import pytest

from tests.core.programs import Programs

ALLOCATORS = ("pymalloc", "malloc", "debug", "malloc_debug", "pymalloc_debug")

# Sizes around pymalloc's limit: up to 512 bytes it serves a request itself.
EVERY_CALL = """
import fastalloc
from tests.core.inside import *

fastalloc.start(**OPTIONS)
results = {}
for domain in DOMAINS:
    for size in (0, 1, 8, 511, 512, 513, 1000, 70_000):
        for zeroed in (False, True):
            blocks = Blocks(100, domain)
            empty = Blocks(0, domain)
            def allocate(n):
                (blocks if n else empty).allocate(size, zeroed=zeroed)
            def release(n):
                (blocks if n else empty).release()
            def both(n):
                allocate(n)
                release(n)
            results[f"{domain} {size} {zeroed}"] = counted_beyond(both, 100), [100, 100 * size]
        for larger in (0, 3, 512, 513, 2_000, 100_000):
            def reallocate(n):
                kept = blocks if n else empty
                kept.allocate(size)
                kept.reallocate(larger)
                kept.release()
            results[f"{domain} {size}->{larger}"] = (
                counted_beyond(reallocate, 100), [200, 100 * (size + larger)])
answer(wrong={k: v for k, v in results.items() if list(v[0]) != v[1]}, tried=len(results),
       design=fastalloc.status().free_design)
"""


@pytest.mark.parametrize("options", ["mode='light'", "interval_bytes=1, scale=4"])
@pytest.mark.parametrize("allocator_name", ALLOCATORS)
def test_each_call_of_each_domain_counts_once(
    programs: Programs, allocator_name: str, options: str
) -> None:
    source = EVERY_CALL.replace("**OPTIONS", options)
    done = programs.run(source, env={"PYTHONMALLOC": allocator_name})
    assert done.answer["tried"] == 3 * 8 * 8
    assert done.answer["wrong"] == {}
    expected = "divert" if allocator_name == "pymalloc" else "filter"
    assert done.answer["design"] == expected


def test_bytes_lists_and_dicts_count_what_they_allocate(programs: Programs) -> None:
    done = programs.run(
        """
        import gc, sys
        import fastalloc
        from tests.core.inside import *

        fastalloc.start()
        gc.disable()
        indices = list(range(1000))  # made before: integers are objects too
        room = [None] * 1000

        def fill(make):
            def work(n):
                for i in indices if n else ():
                    room[i] = make()
                room[:] = empty_room
            return work
        empty_room = list(room)

        def growing_list(n):
            kept = []
            for i in indices if n else ():
                kept.append(None)

        grown, sizes = [], []
        for i in indices:
            grown.append(None)
            size = sys.getsizeof(grown) - sys.getsizeof([])
            if size not in sizes:
                sizes.append(size)

        class Slotted:
            __slots__ = ("a", "b")
        answer(
            texts=counted_beyond(fill(lambda: bytes(100_000)), 1000),
            text=sys.getsizeof(bytes(100_000)),
            lists=counted_beyond(growing_list, 1000),
            list_sizes=sizes,
            slotted=counted_beyond(fill(Slotted), 1000),
            slotted_bytes=Slotted().__sizeof__() + 16,
            sets=counted_beyond(fill(set), 1000),
            set_bytes=set().__sizeof__() + 16,
        )
        """
    )
    got = done.answer
    assert got["texts"] == [1000, 1000 * got["text"]]
    # A list's items are one block that is reallocated as it grows: each step counts its new size.
    assert got["lists"] == [len(got["list_sizes"]), sum(got["list_sizes"])]
    # What the garbage collector tracks has a header of 16 bytes in front.
    assert got["slotted"] == [1000, 1000 * got["slotted_bytes"]]
    assert got["sets"] == [1000, 1000 * got["set_bytes"]]


LAW = """
import threading, zlib, hashlib
import fastalloc
from tests.core.inside import *

fastalloc.start()


def work(index):
    with fastalloc.span(f"job {index % 3}"):
        for _ in range(20):
            with fastalloc.phase("compress"):
                zlib.compress(bytes(100_000) * 3)
            library_without_gil.churn(RAW, 1000 + index, 500)
    with fastalloc.phase("alone"):
        [{} for _ in range(1000)]

for round in range(3):
    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
library.churn_in_foreign_thread(777, 10_000)
with fastalloc.span("main"):
    [bytes(1000) for _ in range(1000)]
fastalloc.stop()
answer(raw_bytes=sum(20 * 500 * (1000 + i) for i in range(8)) * 3, foreign_bytes=7_770_000)
"""


def test_the_sum_over_phases_is_the_total_with_threads_that_have_exited(programs: Programs) -> None:
    done = programs.run(LAW)
    snapshot = done.snapshot()
    assert snapshot.consistent
    assert snapshot.phases["count"].sum() == snapshot.total_count
    assert snapshot.phases["bytes"].sum() == snapshot.total_bytes
    names = [f"job {i}" for i in range(3)]
    of_jobs = snapshot.phases[[name in names for name in snapshot.phases["span_name"]]]
    assert of_jobs["entered"].sum() == 24 + 24 * 20
    assert of_jobs["bytes"].sum() > done.answer["raw_bytes"] + 24 * 20 * 300_000
    assert snapshot.total_bytes > of_jobs["bytes"].sum() + done.answer["foreign_bytes"]
    snapshot.losses.pop("no_stack")  # of the foreign thread
    assert not any(snapshot.losses.values())


def test_the_sum_over_phases_is_the_total_in_a_living_process(programs: Programs) -> None:
    done = programs.run(
        """
        import threading
        import fastalloc
        from tests.core.inside import *

        fastalloc.start()
        go, ready = threading.Event(), threading.Barrier(5)
        def work(index):
            with fastalloc.span(f"job {index}"), fastalloc.phase("inner"):
                library_without_gil.churn(RAW, 1000, 100_000 + index)
                ready.wait()
                go.wait()
        threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(4)]
        for thread in threads: thread.start()
        ready.wait()
        snapshot = fastalloc.snapshot()
        wrong = (int(snapshot.phases["count"].sum()) - snapshot.total_count,
                 int(snapshot.phases["bytes"].sum()) - snapshot.total_bytes)
        inner = {str(p["span_name"]): int(p["count"]) for p in snapshot.phases if p["name"] == "inner"}
        go.set()
        for thread in threads: thread.join()
        answer(wrong=wrong, inner=inner)
        """
    )
    # The snapshot counts the thread that takes it while that thread allocates; phases and totals
    # come from one copy, so they agree all the same.
    assert done.answer["wrong"] == [0, 0]
    for index in range(4):
        assert 0 <= done.answer["inner"][f"job {index}"] - 100_000 - index < 100


def test_the_sum_over_phases_is_the_total_when_stopped_while_threads_allocate(
    programs: Programs,
) -> None:
    done = programs.run(
        """
        import threading
        import fastalloc
        from tests.core.inside import *

        go_on = True
        def work():
            while go_on:
                library_without_gil.churn(RAW, 100, 10_000)
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads: thread.start()
        import time
        for _ in range(40):
            fastalloc.start()
            time.sleep(0.005)
            fastalloc.stop()
        go_on = False
        for thread in threads: thread.join()
        answer()
        """
    )
    import fastalloc

    assert len(done.recordings) == 40
    wrong = []
    for path in done.recordings:
        snapshot = fastalloc.read(path)
        if snapshot.phases["count"].sum() != snapshot.total_count:
            wrong.append((path.name, int(snapshot.phases["count"].sum()) - snapshot.total_count))
        if snapshot.phases["bytes"].sum() != snapshot.total_bytes:
            wrong.append((path.name, int(snapshot.phases["bytes"].sum()) - snapshot.total_bytes))
    assert wrong == []


def test_a_failed_allocation_counts_for_nothing(programs: Programs) -> None:
    done = programs.run(
        """
        import fastalloc
        from tests.core.inside import *

        fastalloc.start()
        def fail(n):
            if n:
                try:
                    bytearray(1 << 60)
                except MemoryError:
                    pass
        got = counted_beyond(fail, 1)
        fastalloc.stop()
        answer(got=got)
        """
    )
    count, size = done.answer["got"]
    assert count < 20
    assert size < 10_000
    failed = done.snapshot().events
    failed = failed[failed["kind"] == "failed_allocation"]
    assert failed["count"].sum() == 3
    assert set(failed["a"] >> 59) == {2}
