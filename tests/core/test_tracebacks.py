"""An error of the program shows the program's frames alone: decorators, and callbacks under uvloop."""

from __future__ import annotations

import re

import pytest

from tests.core.programs import Programs


def test_decorators_leave_no_frame_in_a_traceback(programs: Programs) -> None:
    done = programs.run(
        """
import asyncio, traceback
import fastalloc
from tests.core.inside import answer
fastalloc.start()

def fails(): raise LookupError("theirs")
@fastalloc.phase("p")
def function(): fails()
@fastalloc.span("s")
def outer(): function()
@fastalloc.span("s")
async def coroutine():
    await asyncio.sleep(0)
    function()
@fastalloc.span("s")
def generator():
    yield 1
    fails()
@fastalloc.span("s")
async def async_generator():
    yield 1
    fails()
def step():
    for _ in generator(): pass
def throw():
    steps = generator()
    next(steps)
    steps.throw(LookupError("theirs"))
async def step_async():
    async for _ in async_generator(): pass
async def throw_async():
    steps = async_generator()
    await steps.__anext__()
    await steps.athrow(LookupError("theirs"))
found = {}
def tell(name, call):
    try: call()
    except LookupError as error: found[name] = [f.name for f in traceback.extract_tb(error.__traceback__)]
for call in (outer, step, throw): tell(call.__name__, call)
for call in (coroutine, step_async, throw_async):
    tell(call.__name__, lambda: asyncio.run(call()))
answer(found=found)
"""
    ).answer["found"]
    loop = ["<lambda>", "run", "run", "run_until_complete"]  # asyncio's
    assert done == {
        "outer": ["tell", "outer", "function", "fails"],
        "step": ["tell", "step", "generator", "fails"],
        "throw": ["tell", "throw", "generator"],
        "coroutine": ["tell", *loop, "coroutine", "function", "fails"],
        "step_async": ["tell", *loop, "step_async", "async_generator", "fails"],
        "throw_async": ["tell", *loop, "throw_async", "async_generator"],
    }


UNDER_UVLOOP = """
import asyncio, logging, sys
import uvloop
import fastalloc
if RECORDS: fastalloc.start()
logging.basicConfig(stream=sys.stdout)
def bad(): raise LookupError("theirs")
async def main():
    loop = asyncio.get_running_loop()
    with fastalloc.span("request"):
        task = asyncio.create_task(asyncio.sleep(0))
        task.add_done_callback(lambda task: bad())
        await task
        for ask in (loop.call_soon, loop.call_soon_threadsafe): ask(bad)
        await asyncio.sleep(0.01)
        loop.call_later(0.01, bad)
        await asyncio.sleep(0.05)
uvloop.install()
asyncio.run(main())
"""


def test_uvloop_tells_of_the_programs_own_callbacks(programs: Programs) -> None:
    pytest.importorskip("uvloop")
    with_it, without = (
        re.sub(
            r"0x[0-9a-f]+|line \d+, in uvloop",
            "",
            programs.run(f"RECORDS = {records}\n" + UNDER_UVLOOP).stdout,
        )
        for records in (True, False)
    )
    assert with_it == without
    assert with_it.count("LookupError: theirs") == 4


CALLBACKS = """
import asyncio, sys, traceback
import fastalloc
from tests.core.inside import answer
new_loop = asyncio.new_event_loop
if LOOP == "uvloop":
    import uvloop
    new_loop = uvloop.new_event_loop
fastalloc.start()
def bad(): raise LookupError("theirs")
def worse(*args):
    try: bad()
    except LookupError as error: raise ValueError("of theirs") from error
async def in_thread(): await asyncio.to_thread(bad)
def files(error):
    return [(f.name, f.filename) for f in traceback.extract_tb(error.__traceback__)]
async def main():
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, about: found.append(about["exception"]))
    with fastalloc.span("request"):
        loop.call_soon(bad)
        loop.call_soon(worse, 1, 2)
        await asyncio.sleep(0.01)
        loop.call_later(0.001, bad)
        await asyncio.sleep(0.05)
        try: await in_thread()
        except LookupError as error: found.append(error)
        found.append(found[1].__cause__)
found = []
loop = new_loop()
loop.run_until_complete(main())
answer(found=[files(error) for error in found])
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_callbacks_leave_no_frame_in_a_traceback(programs: Programs, loop: str) -> None:
    pytest.importorskip(loop)
    found = programs.run(f"LOOP = {loop!r}\n" + CALLBACKS).answer["found"]
    assert [[name for name, _ in entries][-1] for entries in found] == [
        "bad",
        "worse",
        *["bad"] * 3,
    ]
    ours = [entry for entries in found for entry in entries if _is_ours(entry[1])]
    assert not ours


def _is_ours(file: str) -> bool:
    return "/fastalloc/" in file or file.endswith((".pxi", "_core.pyx"))
