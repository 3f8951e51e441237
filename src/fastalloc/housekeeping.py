"""What ended processes leave behind is kept within bounds: bytes, count, age, and room on the disk.

The oldest goes first, and what tells of a death last: recordings of killed processes, and dumps made
for want of memory. Never goes what a living process writes, nor the newest dump and the newest
recording of a death: they may be all that tells of it.

Law: never raises, and never waits; what cannot be deleted stays. Several processes may do this at the
same time. `fastalloc prune` does the same by hand.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fastalloc.config import Config

EVERY_SECONDS = 600.0
FIRST_AFTER_SECONDS = 5.0
SPARED_SECONDS = 60.0
"""Nothing younger goes: it may be in the making."""
UNFINISHED_SECONDS = 3600.0
"""A hidden folder this old will never become a dump."""

RECORDING, DUMP, UNFINISHED = "recording", "dump", "unfinished dump"
_MAGIC = b"fastallo"
_HEADER_BYTES = 4096
_PID_OFFSET, _STATE_OFFSET = 32, 96
_RUNNING = 1
_FLOCK = struct.Struct("hhqqi4x")
_WRITE_LOCK = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
_OF_A_DEATH = (b"guard", b"alloc", b"memory")


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


class Item:
    """A recording or a dump on disk. kind: RECORDING, DUMP or UNFINISHED. changed: unix seconds.
    bytes: what it takes on the disk. alive: its process writes it. of_a_death: it tells of one.
    kept: it is the newest of its kind that does."""

    __slots__ = ("alive", "bytes", "changed", "kept", "kind", "of_a_death", "path")

    def __init__(self, path: str, kind: str, changed: float, size: int) -> None:
        self.path, self.kind, self.changed, self.bytes = path, kind, changed, size
        self.alive = self.of_a_death = self.kept = False


def prune(directory: str, caps: Caps, *, dry_run: bool = False) -> list[tuple[Item, str]]:
    """Delete what the bounds do not allow; returns it, each with the reason.

    dry_run: only say so. Costs a listing of the folder and a page of each file in it. Never raises:
    a folder that cannot be read has nothing in it.
    """
    items = look(directory)
    removed = []
    for item, reason in _beyond(items, caps, _free_bytes(directory)):
        if dry_run or _remove(item):
            removed.append((item, reason))
    return removed


def make_room(directory: str, caps: Caps, wanted_bytes: int) -> bool:
    """Whether `wanted_bytes` more leave the floor of free space; deletes what it may to get there.

    Costs one system call where there is room.
    """
    free = _free_bytes(directory)
    if not caps.free_bytes or free is None or free - wanted_bytes >= caps.free_bytes:
        return True
    floor = Caps(0, 0, 0, caps.free_bytes + wanted_bytes)
    prune(directory, floor)
    free = _free_bytes(directory)
    return free is None or free - wanted_bytes >= caps.free_bytes


def look(directory: str) -> list[Item]:
    """What is in the folder, the oldest first."""
    items = sorted(_items(directory), key=_changed)
    for kind in (RECORDING, DUMP):
        told = [item for item in items if item.kind == kind and item.of_a_death]
        if told:
            told[-1].kept = True
    return items


def _changed(item: Item) -> float:
    return item.changed


def _items(directory: str) -> Iterator[Item]:
    try:
        names = os.listdir(directory)
    except OSError:
        return
    for name in names:
        path = os.path.join(directory, name)
        try:
            status = os.lstat(path)
            if name.startswith("fastalloc-") and name.endswith(".recording"):
                if stat.S_ISREG(status.st_mode):
                    yield _recording(path, status)
            elif name.startswith(("dump-", ".dump-")) and stat.S_ISDIR(status.st_mode):
                yield _dump(path, name, status)
        except OSError:  # somebody else deleted it meanwhile
            continue


def _recording(path: str, status: os.stat_result) -> Item:
    logs = sum(os.lstat(log).st_blocks * 512 for log in _request_logs(path))
    item = Item(path, RECORDING, status.st_mtime, status.st_blocks * 512 + logs)
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        header = os.pread(fd, _HEADER_BYTES, 0)
        locked = _is_locked(fd)
    finally:
        os.close(fd)
    if header[: len(_MAGIC)] != _MAGIC or len(header) < _HEADER_BYTES:
        return item  # not ours, or never finished
    (pid,) = struct.unpack_from("<I", header, _PID_OFFSET)
    (state,) = struct.unpack_from("<I", header, _STATE_OFFSET)
    if state == _RUNNING:
        # Without locks on this file system a pid has to tell, though it may be another process's.
        item.alive = locked if locked is not None else os.path.exists(f"/proc/{pid}")
        item.of_a_death = not item.alive
    return item


def _request_logs(path: str) -> list[str]:
    """The files that the requests of a recording's process have left; they go with it."""
    stem = path.removesuffix(".recording")
    logs = (f"{stem}.requests.jsonl", f"{stem}.requests.1.jsonl")
    return [log for log in logs if os.path.lexists(log)]


def _is_locked(fd: int) -> bool | None:
    """Whether the recorder of a living process holds its lock; None: this file system has none."""
    try:
        answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _WRITE_LOCK)
    except OSError:
        return None
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)


def _dump(path: str, name: str, status: os.stat_result) -> Item:
    sizes = [os.lstat(inside).st_blocks * 512 for inside in _inside(path)]
    kind = UNFINISHED if name[0] == "." else DUMP
    item = Item(path, kind, status.st_mtime, sum(sizes))
    item.of_a_death = kind == DUMP and _reason_is_memory(path)
    return item


def _inside(path: str) -> list[str]:
    return [os.path.join(path, name) for name in os.listdir(path)]


def _reason_is_memory(path: str) -> bool:
    """By the start of state.json, where the reason stands."""
    try:
        fd = os.open(os.path.join(path, "state.json"), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        start = os.read(fd, 512)
    except OSError:
        return False
    finally:
        os.close(fd)
    reason = start.partition(b'"reason":')[2].lstrip()[:80].lower()
    return any(word in reason for word in _OF_A_DEATH)


def _beyond(items: list[Item], caps: Caps, free: int | None) -> Iterator[tuple[Item, str]]:
    """What has to go, and why: the oldest first, what tells of a death last."""
    now = time.time()
    removable = [
        item
        for item in items
        if not item.alive and not item.kept and now - item.changed > SPARED_SECONDS
    ]
    removable.sort(key=_order)
    count = sum(item.kind != UNFINISHED and not item.alive for item in items)
    size = sum(item.bytes for item in items if not item.alive)
    room = free if free is not None else caps.free_bytes
    for item in removable:
        if item.kind == UNFINISHED:
            if now - item.changed < UNFINISHED_SECONDS:
                continue
            reason = "never finished"
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
        count -= item.kind != UNFINISHED
        size -= item.bytes
        room += item.bytes
        yield item, reason


def _order(item: Item) -> tuple[bool, float]:
    return item.of_a_death, item.changed


def _remove(item: Item) -> bool:
    try:
        if item.kind == RECORDING:
            _unlink(_request_logs(item.path))
            os.unlink(item.path)
            return True
        if item.kind == DUMP:  # hidden first: a reader never sees half a dump
            folder, name = os.path.split(item.path)
            hidden = os.path.join(folder, f".{name}")
            os.rename(item.path, hidden)
            item = Item(hidden, UNFINISHED, item.changed, item.bytes)
        _unlink(_inside(item.path))
        os.rmdir(item.path)
        return True
    except OSError:
        return False


def _unlink(paths: Iterable[str]) -> None:
    for path in paths:
        os.unlink(path)


def _free_bytes(directory: str) -> int | None:
    """What this user may still write on the folder's disk; None: not known."""
    try:
        disk = os.statvfs(directory)
    except OSError:
        return None
    return disk.f_bavail * disk.f_frsize
