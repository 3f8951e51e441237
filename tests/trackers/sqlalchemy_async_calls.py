"""Queries by SQLAlchemy's AsyncSession, each alone and as ten requests at once: printed for
test_sqlalchemy_async.py."""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

import fastalloc
from fastalloc import requests
from tests.trackers import sqlalchemy_calls
from tests.trackers.looking import answer, start
from tests.trackers.sqlalchemy_calls import Author, Book

AT_ONCE = 10


async def large():
    async with AsyncSession(engine) as session:
        return len((await session.scalars(select(Book))).all())


async def repeated():
    async with AsyncSession(engine) as session:
        for author in (await session.scalars(select(Author))).all():
            (await session.scalars(select(Book).where(Book.author_id == author.id))).all()


async def streamed():
    async with AsyncSession(engine) as session:
        wanted = select(Book).execution_options(yield_per=100)
        async for _ in await session.stream_scalars(wanted):
            pass


async def core_streamed():
    async with engine.connect() as connection:
        async for _ in await connection.stream(text("SELECT * FROM book")):
            pass


async def core_by_partitions():
    async with engine.connect() as connection:
        async for _ in (await connection.stream(text("SELECT * FROM book"))).partitions(100):
            pass


async def core_in_part():
    async with engine.connect() as connection:
        count = 0
        async for _ in await connection.stream(text("SELECT * FROM book")):
            count += 1
            if count == 100:
                break


def iterated_in_greenlet(connection):
    wanted = text("SELECT * FROM book").execution_options(stream_results=True, max_row_buffer=50)
    for _ in connection.execute(wanted):  # other tasks run while it waits for the next fifty
        pass


async def run_sync():
    async with engine.connect() as connection:
        await connection.run_sync(iterated_in_greenlet)


async def core_all():
    async with engine.connect() as connection:
        return await (await connection.stream(text("SELECT * FROM book"))).all()


async def look(name: str, work: Callable[[], Awaitable[object]]) -> list[dict[str, Any]]:
    await work()
    with fastalloc.span("alone") as span:  # a span, not the thread: the loop's own work is nobody's
        await work()
    alone = span.totals()[2]
    found = []

    async def as_request() -> None:
        request = requests.begin(name)
        await work()
        request.end()
        found.append({"alone": alone, "span": request.totals()[2], **request.digests})

    await as_request()  # the first use of anything allocates more
    found.clear()
    await asyncio.gather(*(as_request() for _ in range(AT_ONCE)))
    return found


async def cancelled() -> bool:
    """Whether a task that is cancelled while it waits for a row ends as such, with its cursor closed."""

    async def endless() -> None:
        async with engine.connect() as connection:
            numbers = (
                "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT * FROM t"
            )
            async for _ in await connection.stream(text(numbers)):
                await asyncio.sleep(0)

    request = requests.begin("GET /endless/")
    task = asyncio.ensure_future(endless())
    await asyncio.sleep(0.1)
    task.cancel()
    (result,) = await asyncio.gather(task, return_exceptions=True)
    request.end()
    return isinstance(result, asyncio.CancelledError)


async def fails() -> list[str]:
    request = requests.begin("GET /fails/")
    files = []
    async with AsyncSession(engine) as session:
        try:
            await session.execute(text("SELECT no_such FROM book"))
        except OperationalError as error:
            files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    request.end()
    return files


async def cases() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for work in (
        *(large, repeated, streamed, core_streamed, core_by_partitions, core_in_part, core_all),
        run_sync,
    ):
        found[work.__name__] = await look(f"GET /{work.__name__}/", work)
    found["cancelled"] = await cancelled()
    found["fails"] = await fails()
    await engine.dispose()
    return found


def main(folder: str) -> None:
    global engine
    path = f"{folder}/library.sqlite3"
    sqlalchemy_calls.engine = sqlalchemy_calls.create_engine(f"sqlite:///{path}")
    sqlalchemy_calls.fill()
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
    start(folder)
    found = asyncio.run(cases())
    answer(**found, recording=fastalloc.status().recording)


if __name__ == "__main__":
    main(*sys.argv[1:])
