"""Decorated generators and async generators count their own steps, not their consumer's."""

from __future__ import annotations

from tests.core.asyncio_programs import run
from tests.core.programs import Programs
from tests.core.scopes import phases, records


def test_async_generators_and_context_managers_count_by_decorator(programs: Programs) -> None:
    snapshot = run(
        programs,
        """
import contextlib
@span("rows")
async def rows(n):
    for i in range(n):
        blocks(1)
        await asyncio.sleep(0)
        got = yield i
        if got: blocks(got)
@contextlib.asynccontextmanager
async def transaction():
    with span("transaction"):
        blocks(1)
        await asyncio.sleep(0)
        yield
        blocks(2)
async def noise():
    with span("noise"):
        for _ in range(30):
            blocks(1)
            await asyncio.sleep(0)
async def main():
    task = asyncio.create_task(noise())
    with span("consumer"):
        async for _ in rows(4):
            blocks(16)
            await asyncio.sleep(0)
        generator = rows(5)
        await generator.__anext__()
        assert await generator.asend(100) == 1
        await generator.aclose()
        async with transaction():
            blocks(32)
    await task
""",
    )
    got = records(snapshot)
    assert got["rows"] == [4, 102]
    assert got["noise"] == [30]
    # A bare `with` around a yield lasts until the generator ends: the consumer's steps in between
    # are the transaction's.
    assert got["transaction"] == [1 + 32 + 2]
    assert got["consumer"] == [4 * 16 + 4 + 102 + 35]


def test_generators_count_by_decorator_and_pass_everything_on(programs: Programs) -> None:
    snapshot = run(
        programs,
        """
@span("numbers")
def numbers(n):
    try:
        for i in range(n):
            blocks(1)
            got = yield i
            if got: blocks(got)
    except KeyError:
        blocks(50)
        yield "caught"
    finally:
        blocks(100)
    return "result"
def whole():
    return (yield from numbers(2))
it = whole()
assert next(it) == 0
blocks(7)
assert it.send(20) == 1
try: next(it)
except StopIteration as stop: assert stop.value == "result"
it = numbers(3)
next(it)
assert it.throw(KeyError()) == "caught"
it.close()
it = numbers(3); next(it); del it
a, b = numbers(2), numbers(2)
assert list(zip(a, b)) == [(0, 0), (1, 1)]
del a, b
with span("consumer"):
    for _ in numbers(3): blocks(1000)
""",
        runner="",
    )
    got = records(snapshot)
    assert got["numbers"] == [2 + 20 + 100, 1 + 50 + 100, 101, 102, 102, 103]
    assert got["consumer"] == [3000 + 103]


def test_what_is_open_in_a_decorated_generator_waits_with_it(programs: Programs) -> None:
    snapshot = run(
        programs,
        """
@span("rows")
def rows():
    with phase("read"):
        blocks(1); yield
        blocks(2)
        with phase("parse"):
            yield
            blocks(4)
        yield
    blocks(8)
with span("consumer"):
    for _ in rows(): blocks(16)
    half = rows(); next(half)
blocks(32)
next(half)
half.close()
blocks(64)
""",
        runner="",
    )
    got = phases(snapshot)
    assert got["rows", "read"] == 1 + 2 + 1 + 2 and got["rows", "parse"] == 4
    assert got["rows", "rows"] == 8
    assert got["consumer", "consumer"] == 3 * 16
    assert got["", "startup"] == 32 + 64
