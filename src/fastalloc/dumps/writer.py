"""How a dump is written: the text first, in one go, then all files by one call of the core.

Laws: one dump at a time. What it needs is loaded and reserved before (`prepare`). No step asks the
program for a value, and nothing that a section does can keep the others from being written.
"""

from __future__ import annotations

import os
import time
from _thread import allocate_lock, get_ident
from time import monotonic

from fastalloc import _core, dumps, housekeeping
from fastalloc.breaker import Breaker
from fastalloc.dumps import facts, stacks
from fastalloc.dumps.text import Cut, Text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fastalloc.status import Status

STATE_VERSION = 1
TOUCHED_BYTES = 64 << 10  # of the text: there before the memory is gone
WAIT_SECONDS = 10.0  # for another thread's dump
MOST_REASON = 200

_lock = allocate_lock()
_owner = 0


def _in_child() -> None:
    global _lock, _owner
    _lock, _owner = allocate_lock(), 0


os.register_at_fork(after_in_child=_in_child)


def prepare() -> None:
    """Reserve the memory; about 150 KiB, once. Not while a dump is being written: that has done it."""
    if _lock.acquire(blocking=False):
        try:
            _reserve()
        finally:
            _lock.release()


def _reserve() -> None:
    assert dumps.settings is not None
    _core.dump_reserve(TOUCHED_BYTES, dumps.settings.max_bytes)
    facts.process_start()


def write(reason: str) -> str:
    """See dumps.write."""
    global _owner
    if dumps.settings is None:
        raise RuntimeError("nothing is recorded; call fastalloc.start() first")
    if _owner == get_ident():
        raise RuntimeError("this thread is writing a dump already")
    if not _lock.acquire(timeout=WAIT_SECONDS):
        raise RuntimeError("another thread is still writing a dump")
    try:
        _owner = get_ident()
        return _write(reason)
    finally:
        _owner = 0
        _lock.release()


def _write(reason: str) -> str:
    assert dumps.settings is not None
    begun = monotonic()
    _require_room(dumps.settings)
    _reserve()
    status = dumps.settings.status()
    header = _core.header()
    headroom = _core.headroom()
    room = dumps.settings.max_bytes
    if headroom >= 0:  # beyond what is touched, take no more than a part of what is left
        room = min(room, headroom // 16)
    now = time.time()
    text = Text(_core.dump_begin(room), begun + dumps.settings.max_ms / 1000)
    add = text.section
    add("version", STATE_VERSION)
    add("reason", str(reason)[:MOST_REASON])
    add("time", now)
    add("process", lambda: facts.process(dumps.settings.program))
    add("memory", lambda: facts.memory(status, header, headroom))
    add("resident", facts.resident)
    add("guard", lambda: facts.guard(header))
    add("status", lambda: facts.recorder(status))
    add("losses", lambda: facts.losses(header))
    add("versions", lambda: facts.versions(header))
    add("options", lambda: facts.options(status))
    add("gc", facts.garbage_collector)
    add("spans", facts.open_spans)
    add("checkpoints", lambda: facts.checkpoints(header["now_ns"]))
    add("threads", lambda: {"items": stacks.threads()})
    objects = _Objects(text, _copied_by_counting(status, header, headroom))
    add("objects", objects.section)
    add("tasks", lambda: {"items": stacks.tasks(objects.kept)})
    add("greenlets", lambda: {"items": stacks.greenlets(objects.kept)})
    text.group("trackers", {name: _Tracker(name, text) for name in list(dumps.sections)})
    add("modules", facts.modules)
    add("dump", lambda: _itself(text, begun), in_any_case=True)
    text.end()
    return _core.dump_write(int(now * 1000), max(headroom, 0))


def _require_room(settings: dumps.Settings) -> None:
    """OSError where the dump would leave too little free on the disk."""
    try:
        size = os.stat(_core.state()["recording"]).st_blocks * 512
    except OSError:  # in memory, or lost: writing will say so
        size = 0
    housekeeping.require_room(settings.directory, settings.caps, size + settings.max_bytes)


def _itself(text: Text, begun: float) -> dict[str, object]:
    """What writing it took so far, and what was left out."""
    return {
        "milliseconds": round((monotonic() - begun) * 1000, 2),
        "sections_milliseconds": text.milliseconds,
        "skipped": text.skipped,
    }


def _copied_by_counting(status: Status, header: dict[str, Any], headroom: int) -> bool:
    """Whether to look at all objects could take more memory than is left."""
    if not _core.counting_writes() or not header["forked_ns"]:
        return False
    return 0 <= headroom < status.rss_bytes


class _Objects:
    """The one look at all objects, which serves three sections."""

    def __init__(self, text: Text, copies: bool) -> None:
        self.text, self.copies = text, copies
        self.kept: list[object] = []

    def section(self) -> dict[str, object]:
        if self.copies:
            raise Cut("counting would copy the memory shared with the parent, beyond the limit")
        objects = facts.Objects(self.text.seconds_left)
        self.kept = objects.kept
        return objects.section()


class _Tracker:
    """What one of dumps.sections tells."""

    def __init__(self, name: str, text: Text) -> None:
        self.name, self.text = name, text

    def __call__(self) -> object:
        breaker = Breaker(f"dump section {self.name}")
        if breaker.state == "open":
            raise Cut(f"switched off after {breaker.failures} failures")
        told = breaker.call(self._tell, default=self)
        if told is self:
            raise Cut(f"failed: {breaker.last_error}")
        return told

    def _tell(self) -> object:
        function = dumps.sections.get(self.name)
        told = function() if function is not None else None
        if not self.text.seconds_left:
            raise TimeoutError
        return told
