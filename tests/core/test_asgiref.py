"""asgiref's threads and tasks count for the scope that their context names, without a sample's help."""

from __future__ import annotations

import sys

import pytest

from tests.core.programs import Programs
from tests.core.scopes import BLOCK, PRELUDE, phases, records

pytest.importorskip("asgiref")


def test_a_synchronous_middleware_between_asynchronous_ones_is_counted_exactly(
    programs: Programs,
) -> None:
    snapshot = programs.run(
        PRELUDE.replace("fastalloc.start()", "fastalloc.start(interval_bytes=1 << 40)")
        + """
import asyncio
from asgiref.sync import async_to_sync, sync_to_async
class Request:
    now = None
    def enter(self, name):
        if self.now: self.now.__exit__(None, None, None)
        self.now = phase(name) if name else None
        if self.now: self.now.__enter__()
def view(request): blocks(8)                    # in the thread of `middleware`, which waits for it
async def inner(request):
    blocks(2)
    request.enter("view")
    blocks(4)
    await sync_to_async(view)(request)
    blocks(16)
    request.enter("after")
def middleware(request):
    blocks(1)
    async_to_sync(inner)(request)
    blocks(32)
async def serve(name):
    with span(name):
        request = Request()
        request.enter("before")
        await sync_to_async(middleware)(request)
        blocks(64)
        request.enter("")
        blocks(128)
    blocks(1)
async def main(): await asyncio.gather(serve("a"), serve("b"), serve("b"))
asyncio.run(main())
fastalloc.stop()
"""
    ).snapshot()
    got = phases(snapshot, of=lambda size: size // BLOCK)
    for name, times in (("a", 1), ("b", 2)):
        assert got[name, "before"] == 3 * times
        assert got[name, "view"] == (4 + 8 + 16) * times
        assert got[name, "after"] == (32 + 64) * times
        assert got[name, name] == 128 * times
    assert records(snapshot) == {"a": [255], "b": [255, 255]}
    assert sum(int(p["bytes"]) for p in snapshot.phases) == snapshot.total_bytes


@pytest.mark.skipif(
    sys.version_info >= (3, 14), reason="there every switch of contexts is followed"
)
def test_what_follows_the_context_it_is_called_in_leaves_the_thread_where_it_was(
    programs: Programs,
) -> None:
    snapshot = programs.run(
        PRELUDE.replace("fastalloc.start()", "fastalloc.start(interval_bytes=1 << 40)")
        + """
import contextvars
def inside():
    blocks(1)
    core.following(blocks)(4)
    blocks(2)
    core.following(core.following(blocks))(8)
    try: core.following(broken)(kind=ValueError)
    except ValueError: blocks(16)
def broken(kind):
    blocks(32)
    raise kind
with span("a"): context = contextvars.copy_context()
context.run(inside)
fastalloc.stop()
"""
    ).snapshot()
    got = phases(snapshot, of=lambda size: size // BLOCK)
    assert (got["a", "a"], got["", "startup"]) == (4 + 8 + 32, 1 + 2 + 16)
