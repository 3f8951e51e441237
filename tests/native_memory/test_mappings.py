"""Mapped memory: what counts, and what is left of a sample when a part of it is unmapped."""

from __future__ import annotations

import random

import pytest

from tests.native_memory.conftest import NativePrograms

PRELUDE = """
import os, tempfile
import fastalloc
from tests.core.inside import *
from tests.native_memory.inside import *
calls = open_calls()
def map_pages(pages, address=None, protection=READ | WRITE, flags=PRIVATE | ANONYMOUS, file=-1):
    at = calls.call_mmap(address, pages * PAGE, protection, flags, file)
    assert at and at < 1 << 63, at
    return at
ALONE = 0x2000_0000_0000  # where nobody else maps: what is unmapped in part leaves holes
fastalloc.start(interval_bytes=1, native=True, scale=8)
"""


def test_what_counts_as_memory(programs: NativePrograms) -> None:
    done = programs.run(
        PRELUDE
        + """
on_disk = os.open("file", os.O_RDWR | os.O_CREAT)
os.truncate(on_disk, 10 * PAGE)
in_memory = os.memfd_create("test")
os.truncate(in_memory, 10 * PAGE)
kinds = {
    "private": map_pages(3),
    "shared": map_pages(4, flags=SHARED | ANONYMOUS),
    "memfd": map_pages(5, flags=SHARED, file=in_memory),
    "file": map_pages(6, flags=PRIVATE, file=on_disk),
    "no access": map_pages(7, protection=0),
    "reserved": map_pages(8, flags=PRIVATE | ANONYMOUS | NORESERVE),
    "bytes": calls.call_mmap(None, 100, READ | WRITE, PRIVATE | ANONYMOUS, -1),
}
samples = {name: mapped_samples(at, at + 1) for name, at in kinds.items()}
answer(samples={name: found[0][1] if found else 0 for name, found in samples.items()})
"""
    )
    assert done.answer["samples"] == {
        **{"private": 3, "shared": 4, "memfd": 5, "bytes": 1},
        **{"file": 0, "no access": 0, "reserved": 0},
    }


def test_unmapping_in_part_leaves_the_pieces(programs: NativePrograms) -> None:
    done = programs.run(
        PRELUDE
        + """
at = map_pages(100, address=ALONE)
end = at + 100 * PAGE
steps = []
def unmap(first, pages):
    assert calls.call_munmap(at + first * PAGE, pages * PAGE) == 0
    steps.append(mapped_samples(at, end))
unmap(0, 10)   # the beginning
unmap(90, 10)  # the end
unmap(40, 20)  # the middle
unmap(45, 5)   # what is unmapped already
unmap(35, 35)  # from one piece into the next
unmap(20, 1)
unmap(0, 100)  # several at once
answer(steps=steps)
"""
    )
    assert done.answer["steps"] == [
        [[10, 90]],
        [[10, 80]],
        [[10, 30], [60, 30]],
        [[10, 30], [60, 30]],
        [[10, 25], [70, 20]],
        [[10, 10], [21, 14], [70, 20]],
        [],
    ]


def test_the_totals_follow_and_a_piece_keeps_its_part_of_the_weight(
    programs: NativePrograms,
) -> None:
    done = programs.run(
        PRELUDE
        + """
fastalloc.stop()
weights = []
for i in range(100):
    fastalloc.start(interval_bytes=400 * PAGE, native=True)
    at = map_pages(100, address=ALONE)
    calls.call_munmap(at + 10 * PAGE, 50 * PAGE)
    mine = [s.weight for a, s in live().items() if s.domain == MMAP]
    weights.append(mine)
    snapshot = fastalloc.snapshot() if i < 3 else None
    if snapshot is not None:
        assert snapshot.live_bytes == snapshot.live["weight"].sum()
        assert snapshot.losses["stale"] == snapshot.losses["live"] == 0, snapshot.losses
    fastalloc.stop()
    calls.call_munmap(at, 100 * PAGE)
answer(weights=weights, page=PAGE)
"""
    )
    page, weights = done.answer["page"], done.answer["weights"]
    # A sample of 100 pages stands for 400, or up to 427 where it lies in two strata; its pieces for 1 and 4 tenths.
    assert {len(mine) for mine in weights} == {0, 2}
    for small, large in (sorted(mine) for mine in weights if mine):
        assert large == pytest.approx(4 * small, rel=0.01)
        assert 39 < small / page < 44
    mean = sum(sum(mine) for mine in weights) / len(weights) / page
    assert mean == pytest.approx(50, rel=0.75)  # one standard error is 19 %


def test_fixed_mappings_replace_what_they_cover(programs: NativePrograms) -> None:
    done = programs.run(
        PRELUDE
        + """
at = map_pages(50, address=ALONE)
end = at + 50 * PAGE
steps = []
def place(first, pages, **options):
    map_pages(pages, address=at + first * PAGE, **options)
    steps.append(mapped_samples(at, end))
place(10, 5, flags=PRIVATE | ANONYMOUS | FIXED)
place(40, 10, protection=0, flags=PRIVATE | ANONYMOUS | FIXED)
place(0, 50, flags=PRIVATE | ANONYMOUS | FIXED)
# One that fails leaves all as it was.
failed = calls.call_mmap(at + 1, PAGE, READ, PRIVATE | ANONYMOUS | FIXED, -1) == (1 << 64) - 1
steps.append(mapped_samples(at, end))
unaligned = calls.call_munmap(at + 1, PAGE)
steps.append(mapped_samples(at, end))
answer(steps=steps, failed=failed, unaligned=unaligned)
"""
    )
    assert done.answer["failed"] and done.answer["unaligned"] == -1
    assert done.answer["steps"] == [
        [[0, 10], [10, 5], [15, 35]],
        [[0, 10], [10, 5], [15, 25]],
        [[0, 50]],
        [[0, 50]],
        [[0, 50]],
    ]


def test_mremap_is_followed(programs: NativePrograms) -> None:
    done = programs.run(
        PRELUDE
        + """
at = map_pages(20, address=ALONE)
def remap(at, old, new):
    moved = calls.call_mremap(at, old * PAGE, new * PAGE, MAYMOVE, None)
    assert moved < 1 << 63
    return moved, mapped_samples(moved, moved + max(old, new) * PAGE)
at, grown = remap(at, 20, 500)
at, shrunk = remap(at, 500, 7)
target = map_pages(30, address=ALONE + (1 << 40))
moved = calls.call_mremap(at, 7 * PAGE, 7 * PAGE, MAYMOVE | 2, target + 10 * PAGE)
fixed = mapped_samples(target, target + 30 * PAGE), mapped_samples(at, at + 7 * PAGE)
failed = calls.call_mremap(target, 10 * PAGE, 1 << 60, MAYMOVE, None)
answer(grown=grown, shrunk=shrunk, fixed=fixed, failed=failed,
       after_failure=mapped_samples(target, target + 30 * PAGE))
"""
    )
    assert done.answer["grown"] == [[0, 500]]
    assert done.answer["shrunk"] == [[0, 7]]
    assert done.answer["fixed"] == [[[0, 10], [10, 7], [17, 13]], []]
    assert done.answer["failed"] == (1 << 64) - 1
    assert done.answer["after_failure"] == [[0, 10], [10, 7], [17, 13]]


@pytest.mark.parametrize("seed", range(2))
def test_random_work_agrees_with_a_model(programs: NativePrograms, seed: int) -> None:
    """Hundreds of steps in one range of addresses; after each, the samples cover exactly the pages that
    a set of page numbers says are mapped."""
    chosen = random.Random(seed)
    steps = [
        (
            chosen.choice(["map", "map", "unmap", "unmap", "reserve"]),
            chosen.randrange(200),
            chosen.randrange(1, 40),
        )
        for _ in range(300)
    ]
    done = programs.run(
        PRELUDE
        + f"steps = {steps}\n"
        + """
base = map_pages(300, address=ALONE, protection=0)
model, wrong = set(), []
for kind, first, pages in steps:
    covered = set(range(first, first + pages))
    if kind == "unmap":
        # Pages stay reserved, so that nothing else comes to lie there.
        map_pages(pages, address=base + first * PAGE, protection=0, flags=PRIVATE | ANONYMOUS | FIXED)
        model -= covered
    elif kind == "map":
        map_pages(pages, address=base + first * PAGE, flags=PRIVATE | ANONYMOUS | FIXED)
        model |= covered
    else:
        calls.call_munmap(base + first * PAGE, pages * PAGE)
        map_pages(pages, address=base + first * PAGE, protection=0, flags=PRIVATE | ANONYMOUS | FIXED)
        model -= covered
    found = mapped_samples(base, base + 300 * PAGE)
    pages_found = [page for start, count in found for page in range(start, start + count)]
    if sorted(pages_found) != sorted(model): wrong.append((kind, first, pages))
snapshot = fastalloc.snapshot()
answer(wrong=wrong, losses={str(k): int(v) for k, v in snapshot.losses.items()},
       off=int(snapshot.live_bytes) - int(snapshot.live["weight"].sum()))
"""
    )
    assert done.answer["wrong"] == []
    assert done.answer["off"] == 0
    assert done.answer["losses"]["stale"] == done.answer["losses"]["live"] == 0


def test_what_is_unmapped_unseen_makes_room_and_is_counted(programs: NativePrograms) -> None:
    done = programs.run(
        PRELUDE
        + """
import ctypes, platform
munmap = {"x86_64": 11, "aarch64": 215}[platform.machine()]
at = map_pages(30, address=ALONE)
ctypes.CDLL(None).syscall(munmap, ctypes.c_void_p(at), ctypes.c_size_t(30 * PAGE))  # past the hooks
before = mapped_samples(at, at + 30 * PAGE)
again = map_pages(10, address=at + 10 * PAGE)
assert again == at + 10 * PAGE
answer(before=before, after=mapped_samples(at, at + 30 * PAGE), stale=int(fastalloc.snapshot().losses["stale"]))
"""
    )
    # The kernel gave out again what we took for mapped; of the rest nothing is known.
    assert done.answer == {"before": [[0, 30]], "after": [[0, 10], [10, 10], [20, 10]], "stale": 1}


@pytest.mark.parametrize("scale", [1, 2])
def test_the_room_for_mappings_follows_the_scale(programs: NativePrograms, scale: int) -> None:
    """5000 are more than a table of scale 1 takes (4096): the rest is a loss."""
    done = programs.run(
        PRELUDE.replace("scale=8", f"scale={scale}")
        + """
for i in range(5000): map_pages(1, address=ALONE + 2 * i * PAGE)
seen = len(mapped_samples(ALONE, ALONE + 10_000 * PAGE))
answer(seen=seen, lost=fastalloc.snapshot().losses["live"])
"""
    )
    room = 4096 * scale
    assert min(room, 5000) - 200 <= done.answer["seen"] <= min(room, 5000)  # others map, too
    # Few others: what the program itself holds at this interval nearly fills the live table.
    assert done.answer["lost"] >= 5000 - room if scale == 1 else done.answer["lost"] < 100
