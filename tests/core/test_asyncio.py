"""A span counts its own steps, whatever runs between them on the event loop."""

from __future__ import annotations

import sys

import pytest

from tests.core.asyncio_programs import run
from tests.core.programs import Programs
from tests.core.scopes import phases, records


def test_interleaved_tasks_each_count_their_own_steps(programs: Programs) -> None:
    snapshot = run(
        programs,
        """
async def request(n):
    with span(f"request {n % 10}"):
        for i in range(5):
            blocks(n % 10)
            await asyncio.sleep(0)
            with phase("query"):
                blocks(1)
                await asyncio.sleep(0.001 * (n % 3))
                blocks(1)
            await asyncio.sleep(0)
async def main():
    await asyncio.gather(*(request(n) for n in range(1000)))
    blocks(7)
""",
    )
    got = records(snapshot)
    # The ring keeps the last thousand or so records; the phases' totals are complete.
    assert all(set(found) == {5 * (int(name[-1]) + 2)} for name, found in got.items())
    totals = {(str(p["span_name"]), str(p["name"])): int(p["bytes"]) for p in snapshot.phases}
    for n in range(10):
        # Python's own allocations for a hundred tasks add up to a block or two.
        own = totals[f"request {n}", f"request {n}"] / 1_000_000
        assert 100 * 5 * n <= own < 100 * 5 * n + 3
        query = totals[f"request {n}", "query"] / 1_000_000
        assert 100 * 5 * 2 <= query < 100 * 5 * 2 + 3
    assert snapshot.phases["bytes"].sum() == snapshot.total_bytes


def test_child_tasks_and_gather_count_for_the_span_that_made_them(programs: Programs) -> None:
    snapshot = run(
        programs,
        """
async def child(n):
    blocks(n)
    await asyncio.sleep(0.01)
    blocks(n)
async def other():
    with span("other"):
        for _ in range(10):
            blocks(1)
            await asyncio.sleep(0.003)
async def main():
    noise = asyncio.create_task(other())
    with span("parent"):
        await asyncio.gather(child(1), child(2), asyncio.create_task(child(4)))
        async with asyncio.TaskGroup() as group:
            group.create_task(child(8))
        await asyncio.wait_for(child(16), 5)
    await noise
    blocks(3)
""",
    )
    assert records(snapshot) == {"parent": [62], "other": [10]}


def test_a_task_may_outlive_the_span_that_made_it(programs: Programs) -> None:
    snapshot = run(
        programs,
        """
async def late():
    await asyncio.sleep(0.02)
    blocks(5)
    kept.append(bytes(9_000_000))
kept = []
async def main():
    with span("short"):
        task = asyncio.create_task(late())
        await asyncio.sleep(0)
    blocks(7)
    await task
    blocks(11)
""",
    )
    assert records(snapshot) == {"short": [0]}
    assert phases(snapshot)["short", "short"] == 5 + 9
    (held,) = [s for s in snapshot.spans if s["id"]]
    assert held["name"] == "short" and not held["open"]
    assert 9_000_000 <= held["live_bytes"] < 9_1_000_000


def test_cancellation_and_timeouts_leave_the_span_where_they_strike(programs: Programs) -> None:
    snapshot = run(
        programs,
        """
async def endless(name):
    with span(name):
        try:
            while True:
                blocks(1)
                await asyncio.sleep(3600)
        finally:
            blocks(2)
            await asyncio.sleep(0)
            blocks(4)
async def main():
    tasks = [asyncio.create_task(endless(f"cancelled {i}")) for i in range(5)]
    await asyncio.sleep(0)
    for task in tasks: task.cancel()
    blocks(8)
    await asyncio.gather(*tasks, return_exceptions=True)
    try:
        async with asyncio.timeout(0.01):
            await endless("timed out")
    except TimeoutError:
        blocks(16)
    never = asyncio.create_task(endless("never run"))
    never.cancel()
    await asyncio.gather(never, return_exceptions=True)
""",
    )
    assert records(snapshot) == {**{f"cancelled {i}": [7] for i in range(5)}, "timed out": [7]}


def test_coroutine_functions_count_by_decorator(programs: Programs) -> None:
    snapshot = run(
        programs,
        """
@span("fetch")
async def fetch(n):
    blocks(n)
    await asyncio.sleep(0.001)
    blocks(n)
    return n
async def main():
    assert await asyncio.gather(*(fetch(n) for n in range(1, 9))) == list(range(1, 9))
    assert asyncio.iscoroutinefunction(fetch) or sys.version_info >= (3, 14)
""",
    )
    assert sorted(records(snapshot)["fetch"]) == [2 * n for n in range(1, 9)]


def test_a_thread_asked_by_to_thread_counts_for_the_span_that_asked(programs: Programs) -> None:
    snapshot = run(
        programs,
        """
import concurrent.futures.thread  # or the first request would be charged with this import
def in_thread(n):
    blocks(n)
    time.sleep(0.005)
    library_without_gil.churn(RAW, 1_000_000, n)
async def request(n):
    with span(f"request {n}"):
        await asyncio.to_thread(in_thread, n)
        blocks(1)
async def main():
    await asyncio.gather(*(request(n) for n in range(1, 9)))
""",
    )
    assert records(snapshot) == {f"request {n}": [2 * n + 1] for n in range(1, 9)}


def test_callbacks_count_for_the_span_they_were_scheduled_in(programs: Programs) -> None:
    snapshot = run(
        programs,
        """
async def main():
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    with span("scheduling"):
        loop.call_soon(blocks, 1)
        loop.call_later(0.01, blocks, 2)
        loop.call_later(0.02, done.set_result, None)
    with span("waiting"):
        await done
        blocks(4)
""",
    )
    assert records(snapshot)["waiting"] == [4]
    assert phases(snapshot)["scheduling", "scheduling"] == 3


def test_the_loop_itself_counts_for_the_process(programs: Programs) -> None:
    snapshot = run(
        programs,
        """
async def main():
    loop = asyncio.get_running_loop()
    original = loop._run_once
    loop.call_later(0.001, blocks, 2)
    await asyncio.sleep(0.01)
    with span("request"):
        blocks(1)
        await asyncio.sleep(0.01)
    blocks(4)
""",
    )
    assert records(snapshot) == {"request": [1]}
    assert phases(snapshot)["", "startup"] == 6


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
def test_eager_tasks_count_for_their_own_span(programs: Programs) -> None:
    snapshot = run(
        programs,
        """
async def immediate(n):
    with span(f"immediate {n}"):
        blocks(n)
async def request(n):
    with span(f"eager {n}"):
        blocks(n)
        await asyncio.sleep(0.001)
        blocks(n)
        await asyncio.gather(immediate(n), immediate(n))
async def main():
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    with span("outer"):
        tasks = []
        for n in range(1, 6):
            tasks.append(asyncio.create_task(request(n)))
            blocks(10)
        await asyncio.gather(*tasks)
        blocks(100)
""",
    )
    got = records(snapshot)
    for n in range(1, 6):
        assert got[f"eager {n}"] == [4 * n]
        assert got[f"immediate {n}"] == [n, n]
    assert phases(snapshot)["outer", "outer"] == 150


def test_several_loops_in_threads_do_not_disturb_each_other(programs: Programs) -> None:
    snapshot = run(
        programs,
        """
async def request(thread, n):
    with span(f"thread {thread}"):
        for _ in range(5):
            blocks(n)
            await asyncio.sleep(0.0005)
async def several(thread):
    await asyncio.gather(*(request(thread, thread) for n in range(10)))
threads = [threading.Thread(target=lambda i=i: asyncio.run(several(i))) for i in range(1, 5)]
for thread in threads: thread.start()
for thread in threads: thread.join()
""",
        runner="",
    )
    assert records(snapshot) == {f"thread {i}": [5 * i] * 10 for i in range(1, 5)}


def test_asyncio_imported_after_the_start_is_followed_as_well(programs: Programs) -> None:
    done = programs.run(
        """
        import sys
        import fastalloc
        fastalloc.start()
        assert "asyncio" not in sys.modules
        with fastalloc.span("before"): pass
        import asyncio
        from tests.core.inside import *
        async def request(n):
            with fastalloc.span(f"request {n}"):
                for _ in range(3):
                    library.churn(RAW, 1_000_000, n)
                    await asyncio.sleep(0)
        async def main():
            await asyncio.gather(*(request(n) for n in range(1, 5)))
        asyncio.run(main())
        fastalloc.stop()
        """
    )
    got = records(done.snapshot())
    assert {k: v for k, v in got.items() if k != "before"} == {
        f"request {n}": [3 * n] for n in range(1, 5)
    }


INTERLEAVED = """
async def request(n):
    with span(f"request {n}"):
        for _ in range(5):
            blocks(n)
            await asyncio.sleep(0.001)
async def main():
    with span("outer"):
        await asyncio.gather(*(asyncio.create_task(request(n)) for n in range(1, 9)))
        blocks(100)
"""


def test_a_second_start_goes_on_below_what_another_tool_has_put_around_a_handle(
    programs: Programs,
) -> None:
    snapshot = run(
        programs,
        """
async def request(n):
    with span(f"request {n}"):
        await asyncio.sleep(0)
        blocks(n)
async def main():
    await request(1)
    original = asyncio.Handle._run
    def traced(self):
        ran.append(self)
        return original(self)
    ran = []
    asyncio.Handle._run = traced
    fastalloc.stop()
    fastalloc.start()
    await asyncio.gather(request(2), request(3))
    assert ran and asyncio.Handle._run is traced
    asyncio.Handle._run = original
    await request(4)
""",
    )
    assert records(snapshot) == {f"request {n}": [n] for n in (2, 3, 4)}


def test_uvloop_is_followed_as_well(programs: Programs) -> None:
    pytest.importorskip("uvloop")
    snapshot = run(programs, "import uvloop\n" + INTERLEAVED, runner="uvloop.run(main())")
    got = records(snapshot)
    assert {name: found for name, found in got.items() if name != "outer"} == {
        f"request {n}": [5 * n] for n in range(1, 9)
    }
    assert phases(snapshot)["outer", "outer"] == 100


# Samples are too far apart to help: what is counted is what the switches tell.
UNDER_UVLOOP = """
import contextvars, functools, inspect, os, uvloop
fastalloc.stop()
fastalloc.start(interval_bytes=1 << 40)
"""
only_on_3_11 = pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="what uvloop is asked to call is wrapped on 3.11 only"
)


def run_under_uvloop(programs: Programs, body: str):
    pytest.importorskip("uvloop")
    return run(programs, UNDER_UVLOOP + body, runner="uvloop.run(main())")


@only_on_3_11
def test_callbacks_under_uvloop_count_for_the_span_they_were_asked_for_in(
    programs: Programs,
) -> None:
    snapshot = run_under_uvloop(
        programs,
        """
def many(*sizes): blocks(sum(sizes))
async def main():
    loop = asyncio.get_running_loop()
    with span("first"): pass  # from here on uvloop is followed: this step is not a whole one
    await asyncio.sleep(0)
    loop.add_reader(end, lambda: blocks(256 * len(os.read(end, 1))))  # by no method that is followed
    with span("asking"):
        loop.call_soon(blocks, 1)
        loop.call_soon_threadsafe(functools.partial(blocks, 2))
        loop.call_later(0.01, blocks, 4)
        loop.call_at(loop.time() + 0.01, blocks, 8)
        loop.call_soon(many, *[1] * 16)
        loop.call_soon(many, *[1] * 32, context=contextvars.copy_context())
        with span("other"): context = contextvars.copy_context()
        loop.call_soon(many, 64, context=context)
    with span("waiting"):
        await asyncio.sleep(0.05)
        os.write(start, b"1")
        await asyncio.sleep(0.05)
        blocks(128)
end, start = os.pipe()
""",
    )
    assert records(snapshot)["waiting"] == [128]
    got = phases(snapshot)
    assert got["asking", "asking"] == 63
    assert got["other", "other"] == 64
    assert got["", "startup"] == 256
    assert snapshot.phases["bytes"].sum() == snapshot.total_bytes


@only_on_3_11
def test_uvloop_calls_as_it_would_without_us(programs: Programs) -> None:
    snapshot = run_under_uvloop(
        programs,
        """
called = []
class Loop(uvloop.Loop):
    def call_soon(self, callback, *args, context=None):
        return super().call_soon(callback, *args, context=context)
def refused(call, *args, **kwargs):
    try: call(*args, **kwargs)
    except TypeError as error: return str(error)
names = ("call_soon", "call_soon_threadsafe", "call_later", "call_at")
mistakes = lambda loop: [
    refused(loop.call_soon), refused(loop.call_later, 1), refused(loop.call_later, "soon", print),
    refused(loop.call_soon, print, wrong=1), refused(uvloop.Loop.call_soon),
]
async def main():
    loop = asyncio.get_running_loop()
    before = mistakes(loop), [str(inspect.signature(getattr(loop, name))) for name in names]
    with span("request"):
        assert before == (mistakes(loop), [str(inspect.signature(getattr(loop, name))) for name in names])
        for name in names:
            method = getattr(uvloop.Loop, name)
            assert method.__name__ == name and method.__doc__ and inspect.isroutine(getattr(loop, name))
        loop.call_soon(callback=lambda: called.append("keyword"))
        handle = loop.call_soon(called.append, "handle")
        assert "list.append" in repr(handle), handle
        loop.call_soon(called.append, "cancelled").cancel()
        call_soon = loop.call_soon
        call_soon(called.append, "bound")
        uvloop.Loop.call_soon(loop, called.append, "of the class")
        await asyncio.sleep(0)
    assert called == ["keyword", "handle", "bound", "of the class"], called
async def in_a_loop_of_the_programs():
    with span("their loop"):
        asyncio.get_running_loop().call_soon(blocks, 3)
        await asyncio.sleep(0)
theirs = Loop()
theirs.run_until_complete(in_a_loop_of_the_programs())
theirs.close()
""",
    )
    assert records(snapshot)["their loop"] == [3]


@only_on_3_11
def test_a_second_start_counts_once_below_what_another_tool_has_put_around_uvloops_methods(
    programs: Programs,
) -> None:
    snapshot = run_under_uvloop(
        programs,
        """
async def request(n):
    with span(f"request {n}"):
        for _ in range(3):
            await asyncio.sleep(0)
            blocks(n)
            if n == 4: os.write(start, b"1")
async def main():
    await request(1)
    original = uvloop.Loop.call_soon
    def traced(self, callback, *args, **kwargs):
        asked.append(callback)
        return original(self, callback, *args, **kwargs)
    asked = []
    uvloop.Loop.call_soon = traced
    fastalloc.stop()
    fastalloc.start(interval_bytes=1 << 40)
    asyncio.get_running_loop().add_reader(end, lambda: blocks(10 * len(os.read(end, 1))))
    await asyncio.gather(request(2), request(3))
    await asyncio.create_task(request(4))
    await asyncio.sleep(0.01)
    assert asked
end, start = os.pipe()
""",
    )
    assert records(snapshot) == {f"request {n}": [3 * n] for n in (2, 3, 4)}
    assert phases(snapshot)["", "startup"] == 30


def test_a_handle_whose_context_is_no_context_runs_as_it_would_without_us(
    programs: Programs,
) -> None:
    snapshot = run(
        programs,
        """
class Context:
    def run(self, callback, *args): ran.append("context"); return callback(*args)
class Handle(asyncio.Handle):
    def _run(self): self._context = None; super()._run()
ran = []
async def main():
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, about: ran.append(about["exception"].__class__.__name__))
    with span("request"):
        loop.call_soon(ran.append, "callback", context=Context())
        loop._ready.append(Handle(ran.append, ("never",), loop))
        await asyncio.sleep(0)
        blocks(1)
    assert ran == ["context", "callback", "AttributeError"], ran
""",
    )
    assert records(snapshot) == {"request": [1]}
