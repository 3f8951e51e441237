"""Jobs: a real scheduler runs them; each is a request of its own."""

from __future__ import annotations

import pytest

from tests.core.conftest import allocator, programs
from tests.core.programs import Programs

__all__ = ["allocator", "programs"]

APSCHEDULER = """
import asyncio, sys, threading, time, traceback
import fastalloc
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_EXECUTED
from fastalloc.integrations.jobs import job
from tests.core.inside import *
def blocks(count): library.churn(RAW, 1_000_000, count)
fastalloc.start(request_percent=100)

@job("import orders")
def import_orders(count): blocks(count)

@job("fails")
def fails():
    raise LookupError("theirs")

@job("mails")
async def mails():
    blocks(4)
    await asyncio.sleep(0)
    blocks(1)

@fastalloc.span("plain span")
def plain(): blocks(7)

ended, tracebacks, lock = [], [], threading.Lock()
def listen(event):
    with lock:
        ended.append(event.job_id)
        if event.exception: tracebacks.append(event.traceback)

scheduler = BackgroundScheduler()
scheduler.add_listener(listen, EVENT_JOB_EXECUTED | EVENT_JOB_ERROR)
for n in (1, 2, 3): scheduler.add_job(import_orders, args=[n])
scheduler.add_job(fails)
scheduler.add_job(plain)
scheduler.start()
deadline = time.monotonic() + 20
while len(ended) < 5 and time.monotonic() < deadline: time.sleep(0.01)
scheduler.shutdown()

async def main():
    loop_scheduler = AsyncIOScheduler()
    done = asyncio.Event()
    loop_scheduler.add_listener(lambda event: done.set(), EVENT_JOB_EXECUTED | EVENT_JOB_ERROR)
    loop_scheduler.add_job(mails)
    loop_scheduler.start()
    await asyncio.wait_for(done.wait(), 20)
asyncio.run(main())
records = fastalloc.snapshot().records
answer(spans=sorted((str(r["name"]), int(r["bytes"]) // 1_000_000) for r in records if r["kind"] == "span"),
       tracebacks=tracebacks)
"""


def test_apscheduler_runs_jobs_as_requests(programs: Programs) -> None:
    pytest.importorskip("apscheduler")
    answer = programs.run(APSCHEDULER).answer
    assert answer["spans"] == [
        ["fails", 0],
        *[["import orders", n] for n in (1, 2, 3)],
        *[["mails", 5], ["plain span", 7]],
    ]
    [shown] = answer["tracebacks"]
    assert "in fails" in shown
    assert "src/fastalloc" not in shown


def test_a_job_may_be_a_block(programs: Programs) -> None:
    answer = programs.run(
        """
        import fastalloc
        from fastalloc import requests
        from fastalloc.integrations.jobs import job
        from tests.core.inside import *
        fastalloc.start()
        seen = []
        with job("nightly"):
            seen.append(requests.current().name)
            with job("part"):
                seen.append(requests.current().name)
            seen.append(requests.current().kind)
        seen.append(requests.current())
        answer(seen=seen)
        """
    ).answer
    assert answer["seen"] == ["nightly", "part", "job", None]
