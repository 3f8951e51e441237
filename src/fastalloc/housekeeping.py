"""What ended processes leave behind is kept within bounds: bytes, count, age, and room on the disk.

The oldest goes first, and what tells of a death last: recordings of processes that died, and one dump
of each (leftovers.py). Never goes what a living process writes, nor its newest dump, nor the newest dump
and the newest recording of a death: they may be all that tells of it.

Law: never raises, and never waits; what cannot be deleted stays. Several processes may do this at the
same time. `fastalloc prune` does the same by hand.
"""

from __future__ import annotations

import errno
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fastalloc.config import Config
    from fastalloc.leftovers import Item

EVERY_SECONDS = 600.0
FIRST_AFTER_SECONDS = 5.0
SPARED_SECONDS = 60.0
"""No recording younger than this goes: it may be in the making. Dumps appear whole."""
UNFINISHED_SECONDS = 3600.0
"""A hidden folder this old will never become a dump."""
ROOM_SECONDS = 0.25
"""What making room for a dump may take: it is looked at between two files."""


class Caps:
    """The bounds: bytes, count (of recordings and dumps), days, and bytes that stay free on the disk.
    0: no bound."""

    __slots__ = ("days", "free_bytes", "keep_bytes", "keep_count")

    def __init__(self, keep_bytes: int, keep_count: int, days: float, free_bytes: int) -> None:
        self.keep_bytes, self.keep_count = keep_bytes, keep_count
        self.days, self.free_bytes = days, free_bytes


def caps_of(config: Config) -> Caps:
    """The bounds that the options set."""
    return Caps(config.keep_bytes, config.keep_count, config.keep_days, config.keep_free_bytes)


def prune(
    directory: str, caps: Caps, *, dry_run: bool = False, seconds: float = 0.0
) -> list[tuple[Item, str]]:
    """Delete what the bounds do not allow; returns it, each with the reason.

    dry_run: only say so. seconds: stop after so long; 0: go on to the end. Costs a listing of the
    folder and a page of each file in it. Never raises: a folder that cannot be read has nothing in it.
    """
    from fastalloc.leftovers import look  # not at the start: 70 KiB, for what comes later if ever

    until = time.monotonic() + seconds if seconds else float("inf")
    items = look(directory)
    removed = []
    for item, reason in _beyond(items, caps, _free_bytes(directory)):
        if time.monotonic() > until:
            break
        if dry_run or _remove(item):
            removed.append((item, reason))
    return removed


def make_room(directory: str, caps: Caps, wanted_bytes: int) -> bool:
    """Whether `wanted_bytes` more leave the floor of free space; deletes what it may to get there.

    Costs one system call where there is room, else ROOM_SECONDS or little more.
    """
    floor = Caps(0, 0, 0, caps.free_bytes + wanted_bytes)
    if not caps.free_bytes or _is_free(directory, floor.free_bytes):
        return True
    prune(directory, floor, seconds=ROOM_SECONDS)
    return _is_free(directory, floor.free_bytes)


def require_room(directory: str, caps: Caps, wanted_bytes: int) -> None:
    """Like `make_room`; OSError where there is none."""
    if not make_room(directory, caps, wanted_bytes):
        raise OSError(
            errno.ENOSPC,
            f"less than keep_free_bytes ({caps.free_bytes}) would stay free",
            directory,
        )


def _beyond(items: list[Item], caps: Caps, free: int | None) -> Iterator[tuple[Item, str]]:
    """What has to go, and why: the oldest first, what tells of a death last, and with a recording
    the dumps of its process: without it nobody could tell how that ended."""
    from fastalloc.leftovers import DUMP, LINK, RECORDING, UNFINISHED

    now = time.time()
    removable = [item for item in items if _is_removable(item, now)]
    removable.sort(key=_order)
    count = sum(item.kind in (RECORDING, DUMP) and not item.alive for item in items)
    size = sum(item.bytes for item in items if not item.alive)
    room = free if free is not None else caps.free_bytes
    gone: set[Item] = set()
    for item in removable:
        if item in gone:
            continue
        if item.kind in (UNFINISHED, LINK):
            if now - item.changed < UNFINISHED_SECONDS:
                continue
            reason = "never finished" if item.kind == UNFINISHED else "leads nowhere"
        elif caps.days and now - item.changed > caps.days * 86400:
            reason = "keep_days"
        elif caps.keep_count and count > caps.keep_count:
            reason = "keep_count"
        elif caps.keep_bytes and size > caps.keep_bytes:
            reason = "keep_bytes"
        elif caps.free_bytes and room < caps.free_bytes:
            reason = "keep_free_bytes"
        else:
            continue
        for each in (*item.dumps, item):
            if each not in gone:
                gone.add(each)
                count -= each.kind in (RECORDING, DUMP)
                size -= each.bytes
                room += each.bytes
                yield each, reason


def _is_removable(item: Item, now: float) -> bool:
    from fastalloc.leftovers import DUMP

    if item.alive or item.kept:
        return False
    return item.kind == DUMP or now - item.changed > SPARED_SECONDS


def _order(item: Item) -> tuple[bool, float]:
    return item.of_a_death, item.changed


def _remove(item: Item) -> bool:
    from fastalloc.leftovers import DUMP, LINK, RECORDING, inside, request_logs

    try:
        if item.kind == RECORDING:
            _unlink(request_logs(item.path))
            os.unlink(item.path)
            return True
        path = item.path
        if item.kind == LINK:
            os.unlink(path)
            return True
        if item.kind == DUMP:  # hidden first: a reader never sees half a dump
            folder, name = os.path.split(path)
            path = os.path.join(folder, f".{name}")
            os.rename(item.path, path)
        for each, is_folder in inside(path):
            (os.rmdir if is_folder else os.unlink)(each)
        os.rmdir(path)
        return True
    except OSError:
        return False


def _unlink(paths: Iterable[str]) -> None:
    for path in paths:
        os.unlink(path)


def _is_free(directory: str, wanted_bytes: int) -> bool:
    free = _free_bytes(directory)
    return free is None or free >= wanted_bytes


def _free_bytes(directory: str) -> int | None:
    """What this user may still write on the folder's disk; None: not known."""
    try:
        disk = os.statvfs(directory)
    except OSError:
        return None
    return disk.f_bavail * disk.f_frsize
