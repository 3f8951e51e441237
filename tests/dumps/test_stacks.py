"""Where threads, tasks and greenlets stand."""

from __future__ import annotations

import sys

import pytest

from tests.core.programs import Programs
from tests.dumps.states import PRELUDE


def functions(row: dict) -> list[str]:
    return [frame["function"] for frame in row["stack"]]


def test_each_threads_stack_is_told_leaf_first_with_its_span(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
def leaf(): ready.release(); end.wait()
def middle(): leaf()
def serve(name):
    with fastalloc.span(name), fastalloc.phase("inner"):
        kept = bytes(100_000)
        middle()
ready, end = threading.Semaphore(0), threading.Event()
fastalloc.start()
threads = [threading.Thread(target=serve, args=(f"job {n}",), name=f"worker-{n}", daemon=n == 1)
           for n in range(3)]
for thread in threads: thread.start()
for thread in threads: ready.acquire()
def caller(): return fastalloc.write_dump()
state = state_of(caller())
end.set()
for thread in threads: thread.join()
answer(state=state, line=leaf.__code__.co_firstlineno, tid=threading.get_native_id())
"""
    )
    state = done.answer["state"]
    rows = {row["name"]: row for row in state["threads"]["items"]}
    assert set(rows) == {"MainThread", "worker-0", "worker-1", "worker-2"}
    spans = {span["id"]: span["name"] for span in state["spans"]["items"]}
    for n in range(3):
        row = rows[f"worker-{n}"]
        at = functions(row).index("leaf")
        assert functions(row)[at : at + 3] == ["leaf", "middle", "serve"]
        assert row["stack"][at]["line"] == done.answer["line"]
        assert row["stack"][at]["file"] == "<string>"
        assert spans[row["span_id"]] == f"job {n}" and row["phase"] == "inner"
        assert row["daemon"] == (n == 1)
    main = rows["MainThread"]
    assert main["writes_this_dump"] and main["tid"] == done.answer["tid"]
    assert functions(main) == ["caller", "<module>"]  # nothing of ours above it


def test_a_stack_of_any_depth_is_cut(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
def deep(n): return deep(n - 1) if n else fastalloc.write_dump()
sys.setrecursionlimit(5000)
fastalloc.start()
answer(state=state_of(deep(3000)))
"""
    )
    (main,) = done.answer["state"]["threads"]["items"]
    assert functions(main) == ["deep"] * 100


TASKS = """
async def leaf(): await asyncio.sleep(60)
async def middle(): await leaf()
async def generator():
    await middle()
    yield
async def request(name):
    with fastalloc.span(name):
        kept = bytes(100_000)
        async for _ in generator(): pass
async def stubborn():
    try: await asyncio.sleep(60)
    except asyncio.CancelledError: await asyncio.sleep(60)
async def serve(names):
    tasks = [asyncio.create_task(request(name), name=name) for name in names]
    tasks.append(asyncio.create_task(stubborn(), name="stubborn"))
    done = asyncio.create_task(asyncio.sleep(0))
    await asyncio.sleep(0.01)
    tasks[-1].cancel()
    await done
    ready.release()
    while not end.is_set(): await asyncio.sleep(0.01)
    for _ in range(2):
        for task in tasks: task.cancel()
        await asyncio.sleep(0)
def loop(names): asyncio.run(serve(names))
ready, end = threading.Semaphore(0), threading.Event()
fastalloc.start()
threads = [threading.Thread(target=loop, args=(names,)) for names in (["a", "b"], ["c"])]
for thread in threads: thread.start()
for thread in threads: ready.acquire()
state = state_of(fastalloc.write_dump())
end.set()
for thread in threads: thread.join()
answer(state=state)
"""


def test_the_tasks_of_all_loops_are_told_with_what_they_await(programs: Programs) -> None:
    state = programs.run(PRELUDE + TASKS).answer["state"]
    rows = {row["name"]: row for row in state["tasks"]["items"]}
    assert {"a", "b", "c", "stubborn"} < set(rows)
    # two mains, three requests, two that do not let themselves be cancelled
    assert len(state["tasks"]["items"]) == 7
    spans = {span["id"]: span["name"] for span in state["spans"]["items"]}
    for name in ("a", "b", "c"):
        row = rows[name]
        assert row["coroutine"] == "request" and row["state"] == "waiting"
        assert functions(row) == ["sleep", "leaf", "middle", "generator", "request"]
        assert spans[row["span_id"]] == name
    assert rows["stubborn"]["state"] == "cancelling"
    assert rows["a"]["loop"] == rows["b"]["loop"] != rows["c"]["loop"]


def test_a_running_tasks_stack_is_its_threads(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
async def main(): return fastalloc.write_dump()
fastalloc.start()
answer(state=state_of(asyncio.run(main())))
"""
    )
    (task,) = done.answer["state"]["tasks"]["items"]
    assert task["state"] == "running" and task["stack"] == []
    (thread,) = done.answer["state"]["threads"]["items"]
    assert functions(thread)[0] == "main"


def test_eager_tasks_are_told(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
async def waiting(): await asyncio.sleep(60)
async def eager():
    task = asyncio.create_task(waiting(), name="eager")
    return fastalloc.write_dump()
async def main():
    asyncio.get_running_loop().set_task_factory(getattr(asyncio, "eager_task_factory", None))
    return await asyncio.create_task(eager())
fastalloc.start()
answer(state=state_of(asyncio.run(main())))
"""
    )
    names = [row["name"] for row in done.answer["state"]["tasks"]["items"]]
    assert names.count("eager") == 1


def test_suspended_greenlets_are_told(programs: Programs) -> None:
    pytest.importorskip("greenlet")
    done = programs.run(
        PRELUDE
        + """
import greenlet
class Worker(greenlet.greenlet): pass
def wait(): hub.switch()
def serve(name):
    with fastalloc.span(name):
        kept = bytes(100_000)
        wait()
hub = greenlet.getcurrent()
fastalloc.start()
workers = [Worker(serve) for _ in range(3)]
for n, worker in enumerate(workers): worker.switch(f"request {n}")
idle = Worker(serve)
state = state_of(fastalloc.write_dump())
for worker in workers: worker.switch()
answer(state=state)
"""
    )
    state = done.answer["state"]
    spans = {span["id"]: span["name"] for span in state["spans"]["items"]}
    rows = state["greenlets"]["items"]
    assert sorted(spans[row["span_id"]] for row in rows) == [f"request {n}" for n in range(3)]
    for row in rows:
        assert row["type"] == "__main__.Worker"
        assert functions(row)[:2] == ["wait", "serve"]


def test_objects_are_counted_by_type(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
class Order:
    def __init__(self): self.lines = []
orders = [Order() for _ in range(5000)]
gc.freeze()
late = [Order() for _ in range(7)]
fastalloc.start()
state = state_of(fastalloc.write_dump())
objects = len(gc.get_objects())
answer(state=state, objects=objects)
"""
    )
    objects = done.answer["state"]["objects"]
    counts = {row["type"]: row["count"] for row in objects["items"]}
    assert objects["complete"] and sum(counts.values()) <= objects["seen"]
    # what visits them from 3.14 on passes over frozen objects
    assert counts["__main__.Order"] in (5007, 7)
    assert list(counts.values()) == sorted(counts.values(), reverse=True)
    assert done.answer["state"]["gc"]["frozen"] > 5000


def test_looking_for_tasks_and_objects_while_threads_make_and_drop_them(
    programs: Programs,
) -> None:
    done = programs.run(
        PRELUDE
        + """
def churn_types():
    while not end.is_set():
        kinds = [type(f"T{n}", (), {})() for n in range(50)]
        threading.Thread(target=int).start()
def churn_tasks():
    async def one(n): await asyncio.sleep(0.001 * (n % 5))
    async def main():
        while not end.is_set():
            await asyncio.gather(*[one(n) for n in range(50)])
    asyncio.run(main())
end = threading.Event()
sys.setswitchinterval(1e-5)
fastalloc.start(interval_bytes=1000, dump_max_ms=10_000)  # threads fight for the GIL here
threads = [threading.Thread(target=each) for each in (churn_types, churn_tasks, churn_tasks)]
for thread in threads: thread.start()
skipped = {}
for n in range(20):
    path = fastalloc.write_dump()
    state = state_of(path)
    skipped.update(state["dump"]["skipped"])
    snapshot = fastalloc.read(path)
    assert snapshot.consistent
end.set()
for thread in threads: thread.join()
answer(skipped=skipped)
""",
        timeout=120,
    )
    assert done.answer["skipped"] == {}


def test_looking_at_all_objects_copies_no_page_that_is_shared_with_the_parent(
    programs: Programs,
) -> None:
    done = programs.run(
        PRELUDE
        + """
from fastalloc import _core
kept = [[] for _ in range(500_000)]  # 28 MB of objects
gc.disable()
fastalloc.start()
def private():
    with open("/proc/self/smaps_rollup") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("Private_Dirty"))
out, inn = os.pipe()
if not os.fork():
    try:
        with fastalloc.span("child"): pass
        fastalloc.dumps.prepare()
        before = private()
        _core.count_objects((), 10.0, 100)
        grown = private() - before
        state = state_of(fastalloc.write_dump())["objects"]
        os.write(inn, json.dumps([grown, state["seen"], _core.counting_writes()]).encode())
    finally:
        os._exit(0)
answer(child=json.loads(os.read(out, 1000)))
os.wait()
"""
    )
    grown, seen, writes = done.answer["child"]
    assert seen > 500_000
    if not writes:
        assert grown < 4096  # KiB


@pytest.mark.skipif(
    sys.version_info < (3, 14), reason="there, a task is in a set only when it is made"
)
def test_a_task_that_is_being_made_is_none(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
half = asyncio.Task.__new__(asyncio.Task)
fastalloc.start()
state = state_of(fastalloc.write_dump())
answer(tasks=state["tasks"]["items"], skipped=state["dump"]["skipped"])
"""
    )
    assert done.answer["tasks"] == [] and done.answer["skipped"] == {}
