"""Each function of malloc's family: counted once, sampled with its true size, followed to its end."""

from __future__ import annotations

import pytest

from tests.native_memory.conftest import NativePrograms

PRELUDE = """
import fastalloc
from tests.core.inside import *
from tests.native_memory.inside import *
calls = open_calls()
"""

ALLOCATIONS = {
    "malloc": ("calls.call_malloc(5000)", 5000),
    "a pointer to malloc": ("calls.call_malloc_pointer(5001)", 5001),
    "calloc": ("calls.call_calloc(10, 501)", 5010),
    "realloc of nothing": ("calls.call_realloc(None, 5020)", 5020),
    "realloc": ("calls.call_realloc(calls.call_malloc(10), 5030)", 5030),
    "reallocarray": ("calls.call_reallocarray(calls.call_malloc(10), 2, 2520)", 5040),
    "posix_memalign": ("calls.call_posix_memalign(256, 5050)", 5050),
    "aligned_alloc": ("calls.call_aligned_alloc(64, 5056)", 5056),
    "memalign": ("calls.call_memalign(64, 5070)", 5070),
    "valloc": ("calls.call_valloc(5080)", 5080),
    "pvalloc": ("calls.call_pvalloc(5090)", 5090),
}


def test_each_function_is_sampled_with_its_size_and_followed_to_its_free(
    programs: NativePrograms,
) -> None:
    work = "\n".join(f"blocks[{name!r}] = {call}" for name, (call, _) in ALLOCATIONS.items())
    done = programs.run(
        PRELUDE
        + "fastalloc.start(interval_bytes=1, native=True, scale=4)\nblocks = {}\n"
        + work
        + """
samples = {name: sample_at(block) for name, block in blocks.items()}
grown = calls.call_realloc(blocks["malloc"], 1 << 20)
after_growth = sample_at(grown)
old = sample_at(blocks["malloc"]) if grown != blocks["malloc"] else None
blocks["malloc"] = grown
for block in blocks.values(): calls.call_free(block)
left = [name for name, block in blocks.items() if (sample_at(block) or [0, 0, 0])[2] == MALLOC]
block = calls.call_malloc(6000); calls.call_realloc(block, 0)
zero = sample_at(block)
block = calls.call_malloc(7000); calls.call_free_pointer(block)
pointer = sample_at(block)
answer(samples=samples, after_growth=after_growth, old=old, left=left, zero=zero, pointer=pointer)
"""
    )
    wanted = {name: [size, size, 4] for name, (_, size) in ALLOCATIONS.items()}
    assert done.answer["samples"] == wanted
    assert done.answer["after_growth"] == [1 << 20, 1 << 20, 4]
    assert done.answer["old"] is None or done.answer["old"][2] != 4
    assert done.answer["left"] == []
    assert done.answer["zero"] is None or done.answer["zero"][0] != 6000
    assert done.answer["pointer"] is None or done.answer["pointer"][0] != 7000


@pytest.mark.parametrize("interval", [1, 500_000])
def test_counters_are_exact(programs: NativePrograms, interval: int) -> None:
    done = programs.run(
        PRELUDE
        + f"fastalloc.start(interval_bytes={interval}, native=True)\n"
        + "answer(churn=counted_beyond(lambda n: calls.churn(100, n), 12345))"
    )
    assert done.answer["churn"] == [12345, 1234500]


def test_failures_are_events_and_taken_back_and_errno_is_the_originals(
    programs: NativePrograms,
) -> None:
    done = programs.run(
        PRELUDE
        + """
import errno
fastalloc.start(interval_bytes=1000, native=True)
failures = [calls.errno_of_failure(n) for n in (1 << 62, (1 << 64) - 4096, (1 << 63) + 5)]
events = [e for e in fastalloc.snapshot().events if e["kind"] == "failed_allocation"]
counted = counted_beyond(lambda n: calls.fail(3 << 62, n), 20)
for i in range(3000): calls.call_free(calls.call_malloc(1000))
# The countdown still works: some of these are samples.
samples = fastalloc.status().samples
for i in range(3000): calls.call_free(calls.call_malloc(1000))
answer(failures=failures, counted=counted, kept=calls.errno_after(77, 2 << 20),
       sizes=[(int(e["a"]), int(e["count"])) for e in events], domains=sorted({int(e["b"]) for e in events}),
       sampled=fastalloc.status().samples - samples)
"""
    )
    assert done.answer["failures"] == [12, 12, 12]
    assert done.answer["counted"] == [0, 0]
    assert done.answer["kept"] == 77
    assert done.answer["sizes"] == [[(1 << 63) - 1, 3]]
    assert done.answer["domains"] == [4]
    # 63 %, and what the loop and the watcher allocate; if each one were a sample, the loop's numbers were, too: 6,000
    assert 1500 < done.answer["sampled"] < 4500


@pytest.mark.parametrize("allocator_name", ["pymalloc", "malloc", "pymalloc_debug"])
def test_nothing_is_counted_twice(programs: NativePrograms, allocator_name: str) -> None:
    """Python's own blocks, also those that it asks of malloc, are counted in its domains only."""
    done = programs.run(
        PRELUDE
        + """

def work(n):
    for i in range(n): bytearray(100_000)
answers = []
for on in (False, True):
    fastalloc.start(interval_bytes=1, native=on, scale=8)
    kept = [bytearray(200_000) for i in range(20)]
    samples = [s for s in live().values() if 200_000 <= s.size < 201_000]
    answers.append([counted_beyond(work, 500), len(samples), sorted({s.domain for s in samples})])
    fastalloc.stop()
answer(answers=answers)
""",
        env={"PYTHONMALLOC": allocator_name},
    )
    without, with_native = done.answer["answers"]
    assert without == with_native
    assert without[1] == 20


def test_estimates_are_right_on_average(programs: NativePrograms) -> None:
    done = programs.run(
        PRELUDE
        + """
sums = []
for i in range(30):
    fastalloc.start(interval_bytes=100_000, native=True)
    blocks = [calls.call_malloc(20_000) for _ in range(500)]
    snapshot = fastalloc.snapshot()
    live = snapshot.live
    sums.append(int(live["weight"][live["domain"] == MALLOC].sum()))
    fastalloc.stop()
    for block in blocks: calls.call_free(block)
answer(sums=sums)
"""
    )
    # One has a standard error of sqrt(weight * (weight - size) / weight * n) = 0.95e6 or so.
    assert sum(done.answer["sums"]) / 30 == pytest.approx(10_000_000, rel=0.07)
    assert len(set(done.answer["sums"])) > 5
