"""What processes have left in a folder: recordings and dumps, whose they are, and which tell of a death.

A dump is of a death only if its process died: one that was written near the limit by a process that
lived on and ended well is as good as any other. The recording beside it tells.

Law: nothing here writes, waits or raises. It costs a listing of the folder and a page of each file.
"""

from __future__ import annotations

import errno
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

RECORDING, DUMP, UNFINISHED = "recording", "dump", "unfinished dump"
LINK = "link to a recording in memory that is gone"
CLOCK_SECONDS = 1.0
"""A dump's name may tell an instant so long before the recording's: the clock was set, or rounded."""
MOST_DEPTH = 8
"""Of folders inside a dump's; there should be none."""

_MAGIC = b"fastallo"
_HEADER_BYTES = 4096
_PID_OFFSET, _TICKS_OFFSET, _STATE_OFFSET, _EXIT_OFFSET = 32, 40, 96, 304
_RUNNING = 1
_UNKNOWN, _EXCEPTION = 0, 2
_MEMORY = (b"guard", b"alloc", b"memory")
_FROM_OUTSIDE = (b'"state": "killed"', b'"state":"killed"')


class Item:
    """A recording or a dump on disk. kind: RECORDING, DUMP or UNFINISHED. changed: unix seconds.
    bytes: what it takes on the disk. alive: its process writes it. of_a_death: it tells of one.
    kept: it may be all that tells of the last one, or of what a living process has just met. pid,
    begun: of its process, or of the dump (unix seconds), by its name. owner: of a dump, the recording
    of its process; dumps: the other way round. for_memory: the dump was made for want of it."""

    __slots__ = (
        *("alive", "begun", "bytes", "changed", "dumps", "for_memory", "kept", "kind"),
        *("of_a_death", "owner", "path", "pid", "process"),
    )

    def __init__(self, path: str, kind: str, changed: float, size: int) -> None:
        self.path, self.kind, self.changed, self.bytes = path, kind, changed, size
        self.alive = self.of_a_death = self.kept = self.for_memory = False
        self.pid, self.begun = _name_tells(os.path.basename(path))
        self.process = (self.pid, 0)
        self.owner: Item | None = None
        self.dumps: list[Item] = []


def _name_tells(name: str) -> tuple[int, float]:
    """(pid, instant), zeros where the name has none."""
    parts = name.removesuffix(".recording").split("-")
    if len(parts) == 3 and parts[1].isdecimal() and parts[2].isdecimal():
        return int(parts[1]), int(parts[2][:16]) / 1000
    return 0, 0.0


def look(directory: str) -> list[Item]:
    """What is in the folder, the oldest first; nothing where it cannot be listed."""
    items = sorted(_items(directory), key=_changed)
    recordings = [item for item in items if item.kind == RECORDING]
    dumps = [item for item in items if item.kind == DUMP]
    _see_who_went_on(recordings)
    _join(recordings, dumps)
    for dump in dumps:
        if dump.owner is None:  # nothing tells how its process ended
            dump.of_a_death = dump.of_a_death or dump.for_memory
    for recording in recordings:
        _choose(recording)
    _keep_the_last_death(recordings, dumps)
    return items


def _changed(item: Item) -> float:
    return item.changed


def _see_who_went_on(recordings: list[Item]) -> None:
    """A process that goes over to another program (exec) may begin another recording: no death."""
    latest: dict[tuple[int, int], Item] = {}
    for item in sorted(recordings, key=_begun):
        before = latest.get(item.process)
        if before is not None and item.process[1]:
            before.of_a_death = False
        latest[item.process] = item


def _begun(item: Item) -> float:
    return item.begun


def _join(recordings: list[Item], dumps: list[Item]) -> None:
    """Find each dump's process: the last of its pid that had begun by then."""
    by_pid: dict[int, list[Item]] = {}
    for recording in sorted(recordings, key=_begun):
        by_pid.setdefault(recording.pid, []).append(recording)
    for dump in dumps:
        for recording in by_pid.get(dump.pid, ()):
            if recording.begun <= dump.begun + CLOCK_SECONDS:
                dump.owner = recording
        if dump.owner is not None:
            dump.owner.dumps.append(dump)


def _choose(recording: Item) -> None:
    """One dump tells of a death, the last that was made for want of memory, if any. Of a process that
    lives it is not known yet which will be the last."""
    for_memory = [dump for dump in recording.dumps if dump.for_memory]
    if recording.alive:
        for dump in (*recording.dumps[-1:], *for_memory[-1:]):
            dump.kept = True
    elif recording.of_a_death and recording.dumps:
        (for_memory or recording.dumps)[-1].of_a_death = True


def _keep_the_last_death(recordings: list[Item], dumps: list[Item]) -> None:
    """Neither its recording nor its dump ever goes; nor the recording that says so of the dump."""
    for told in (
        [item for item in recordings if item.of_a_death],
        [item for item in dumps if item.of_a_death and item.owner is not None]
        or [item for item in dumps if item.of_a_death],
    ):
        if told:
            told[-1].kept = True
            if told[-1].owner is not None:
                told[-1].owner.kept = True


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
                elif _leads_nowhere(path, status):
                    yield Item(path, LINK, status.st_mtime, 0)
            elif name.startswith(("dump-", ".dump-")) and stat.S_ISDIR(status.st_mode):
                yield _dump(path, name, status)
        except OSError:  # somebody else deleted it meanwhile
            continue


# --- recordings -------------------------------------------------------------------------------


def _recording(path: str, status: os.stat_result) -> Item:
    logs = sum(os.lstat(log).st_blocks * 512 for log in request_logs(path))
    item = Item(path, RECORDING, status.st_mtime, status.st_blocks * 512 + logs)
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        header = os.pread(fd, _HEADER_BYTES, 0)
        locked = _is_locked(fd)
    finally:
        os.close(fd)
    if header[: len(_MAGIC)] != _MAGIC or len(header) < _HEADER_BYTES:
        item.alive = bool(locked) and not any(header[: len(_MAGIC)])  # being created
        return item  # else not ours, or never finished
    pid, state, ended = (
        int.from_bytes(header[offset : offset + 4], "little")
        for offset in (_PID_OFFSET, _STATE_OFFSET, _EXIT_OFFSET)
    )
    item.process = (pid, int.from_bytes(header[_TICKS_OFFSET : _TICKS_OFFSET + 8], "little"))
    if state == _RUNNING:
        # Without locks on this file system a pid has to tell, though it may be another process's.
        item.alive = locked if locked is not None else os.path.exists(f"/proc/{pid}")
    without_a_word = state == _RUNNING and ended == _UNKNOWN
    item.of_a_death = not item.alive and (without_a_word or ended == _EXCEPTION)
    return item


def _leads_nowhere(path: str, status: os.stat_result) -> bool:
    """Whether it is a link to the memory of a process that has ended (native/memory_file.c), or of one
    in another pid namespace, which will make it again."""
    if not stat.S_ISLNK(status.st_mode) or not os.readlink(path).startswith("/proc/"):
        return False
    return not os.path.exists(path)


def request_logs(path: str) -> list[str]:
    """The files that the requests of a recording's process have left; they go with it."""
    stem = path.removesuffix(".recording")
    logs = (f"{stem}.requests.jsonl", f"{stem}.requests.1.jsonl")
    return [log for log in logs if os.path.lexists(log)]


def _is_locked(fd: int) -> bool | None:
    """Whether the recorder of a living process holds its lock; None: this file system has none."""
    # A test takes no lock. fcntl and struct would tell too, and be loaded into every service for that.
    try:
        os.lockf(fd, os.F_TEST, 0)
    except OSError as error:
        return True if error.errno in (errno.EACCES, errno.EAGAIN) else None
    return False


# --- dumps ------------------------------------------------------------------------------------


def _dump(path: str, name: str, status: os.stat_result) -> Item:
    sizes = [os.lstat(each).st_blocks * 512 for each, _ in inside(path)]
    kind = UNFINISHED if name[0] == "." else DUMP
    item = Item(path, kind, status.st_mtime, sum(sizes))
    if kind == DUMP:
        start = _start_of_state(path)
        reason = start.partition(b'"reason":')[2].lstrip()[:80].lower()
        item.for_memory = any(word in reason for word in _MEMORY)
        item.of_a_death = any(words in start for words in _FROM_OUTSIDE)
    return item


def inside(path: str, depth: int = MOST_DEPTH) -> Iterator[tuple[str, bool]]:
    """All below a dump's folder, the innermost first: (path, whether it is a folder). Links are not
    followed. OSError where it cannot be listed."""
    with os.scandir(path) as entries:
        found = [(entry.path, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for each, is_folder in found:
        if is_folder and depth:
            yield from inside(each, depth - 1)
        yield each, is_folder


def _start_of_state(path: str) -> bytes:
    """The start of state.json, where the reason stands, and the state that was seen from outside."""
    try:
        fd = os.open(os.path.join(path, "state.json"), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        return os.read(fd, 512)
    except OSError:
        return b""
    finally:
        os.close(fd)
