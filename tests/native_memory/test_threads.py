"""Native memory from threads of all kinds."""

from __future__ import annotations

from tests.native_memory.conftest import NativePrograms

PRELUDE = """
import os, threading, time
import fastalloc
from tests.core.inside import *
from tests.native_memory.inside import *
calls = open_calls()
without_gil = open_calls(ctypes.CDLL)
"""


def test_threads_without_the_gil_have_their_python_stack(programs: NativePrograms) -> None:
    done = programs.run(
        PRELUDE
        + """
fastalloc.start(interval_bytes=1, native=True)
def load_image(): return without_gil.call_malloc(345_678)
def worker():
    blocks.append(load_image())
blocks = []
thread = threading.Thread(target=worker, name="images")
thread.start(); thread.join()
snapshot = fastalloc.snapshot()
rows = [row for row in snapshot.top(by="live_bytes", group="function", limit=500) if row.live_bytes >= 345_678]
threads = [row.key for row in snapshot.top(by="live_bytes", group="thread", limit=50) if row.live_bytes >= 345_678]
answer(rows=[row.key for row in rows], threads=threads)
"""
    )
    assert any("load_image" in row for row in done.answer["rows"])
    assert "images" in done.answer["threads"]


def test_native_threads_stand_as_such_and_outlive_their_end(programs: NativePrograms) -> None:
    """A thread that Python knows nothing of: no stack, but its name; its samples stay when it has ended,
    and are freed by whoever frees the blocks."""
    done = programs.run(
        PRELUDE
        + """
fastalloc.start(interval_bytes=1, native=True)
blocks = (ctypes.c_void_p * 100)()
calls.allocate_in_foreign_thread(23_456, 100, ctypes.addressof(blocks))
snapshot = fastalloc.snapshot()
mine = snapshot.live[snapshot.live["size"] == 23_456]
nodes = sorted({int(snapshot.sites["node"][site]) for site in mine["site"]})
threads = [(row.key, row.live_bytes) for row in snapshot.top(group="thread", limit=50)]
before = _totals = fastalloc.status().live_bytes
for block in blocks: calls.call_free(block)
left = sum(s.size == 23_456 and s.domain == MALLOC for s in live().values())
answer(count=len(mine), nodes=nodes, threads=threads, left=left)
"""
    )
    assert done.answer["count"] == 100
    assert done.answer["nodes"] == [0]
    native = [name for name, held in done.answer["threads"] if held == 2_345_600]
    assert len(native) == 1 and native[0].startswith("native "), done.answer["threads"]
    assert done.answer["left"] == 0


def test_small_c_stacks_are_enough_for_threads_without_python(programs: NativePrograms) -> None:
    done = programs.run(
        PRELUDE
        + """
fastalloc.start(interval_bytes=1, native=True, max_frames=256)
for i in range(50): calls.allocate_in_small_thread(100)
answer(status=fastalloc.status().active)
"""
    )
    assert done.answer["status"] is True


def test_blocks_freed_elsewhere_are_followed(programs: NativePrograms) -> None:
    """Allocated in one thread and freed in another; allocated natively, freed through Python, and
    the other way round."""
    done = programs.run(
        PRELUDE
        + """
fastalloc.start(interval_bytes=1, native=True)
a = calls.call_malloc(11_111)
b = library.allocate(RAW, 22_222)
c = calls.call_malloc(33_333)
before = [sample_at(x) for x in (a, b, c)]
library.release(RAW, a)
calls.call_free(b)
thread = threading.Thread(target=without_gil.call_free, args=(c,)); thread.start(); thread.join()
after = [s and s[0] for s in map(sample_at, (a, b, c))]
answer(before=before, gone=[now != was[0] for was, now in zip(before, after)])
"""
    )
    assert done.answer["before"] == [[11_111, 11_111, 4], [22_222, 22_222, 0], [33_333, 33_333, 4]]
    assert done.answer["gone"] == [True] * 3


def test_a_forked_child_goes_on(programs: NativePrograms) -> None:
    done = programs.run(
        PRELUDE
        + """
fastalloc.start(interval_bytes=1, native=True, scale=2)
blocks = [calls.call_malloc(7_777) for i in range(50)]
at = calls.call_mmap(0x2000_0000_0000, 20 * PAGE, READ | WRITE, PRIVATE | ANONYMOUS, -1)
r, w = os.pipe()
pid = os.fork()
if pid == 0:
    code = 1
    try:
        for block in blocks[:20]: calls.call_free(block)
        calls.call_munmap(at + 5 * PAGE, 5 * PAGE)
        more = calls.call_malloc(8_888)
        status = fastalloc.status()
        found = live()
        os.write(w, json.dumps({
            "native": status.native, "pieces": mapped_samples(at, at + 20 * PAGE), "more": sample_at(more),
            "kept": sum(s.size == 7_777 for s in found.values())}).encode())
        fastalloc.stop()
        code = 0
    finally:
        os._exit(code)
os.close(w)
child = json.loads(open(r).read())
_, code = os.waitpid(pid, 0)
kept = sum(s.size == 7_777 for s in live().values())
answer(child=child, code=code, kept=kept, pieces=mapped_samples(at, at + 20 * PAGE))
"""
    )
    assert done.answer["code"] == 0
    assert done.answer["child"] == {
        "native": True,
        "pieces": [[0, 5], [10, 10]],
        "more": [8888, 8888, 4],
        "kept": 30,
    }
    assert done.answer["kept"] == 50
    assert done.answer["pieces"] == [[0, 20]]
