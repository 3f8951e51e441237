"""A FastAPI app whose endpoints allocate known bytes, in each way that FastAPI runs code."""

from __future__ import annotations

import asyncio

from fastapi import BackgroundTasks, Depends, FastAPI

from fastalloc import requests
from fastalloc.integrations.starlette import Middleware
from tests.integrations.apps.blocks import churn

MEGA = 1_000_003  # bytes; what the framework allocates around a block is far less
app = FastAPI()
app.add_middleware(Middleware)


def span_id() -> int:
    request = requests.current()
    return request.id if request is not None else 0


@app.get("/coroutine/{count}")
async def coroutine(count: int) -> int:
    for _ in range(3):
        churn(count * MEGA)
        await asyncio.sleep(0)
    return span_id()


@app.get("/function/{count}")
def function(count: int) -> int:
    for _ in range(3):
        churn(count * MEGA)
    return span_id()


@app.get("/children/{count}")
async def children(count: int) -> int:
    async def child() -> None:
        await asyncio.sleep(0)
        churn(count * MEGA)

    await asyncio.gather(child(), child(), asyncio.to_thread(churn, count * MEGA))
    return span_id()


async def before(count: int):
    churn(count * MEGA)
    yield
    churn(count * MEGA)


@app.get("/dependency/{count}", dependencies=[Depends(before)])
async def dependency(count: int, background: BackgroundTasks) -> int:
    background.add_task(churn, count * MEGA)
    return span_id()


@app.get("/fails/{count}")
def fails(count: int) -> int:
    raise LookupError("theirs")
