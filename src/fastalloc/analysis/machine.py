"""What this machine still knows of processes that have ended: its kernel's log, its cgroups.

What recordings say is not trusted: a file is opened only below a cgroup mount, never waited for, and
read up to a bound.
"""

from __future__ import annotations

import os
import re
import stat
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from fastalloc.recording.process import own_pid_namespace

INITIAL_PID_NAMESPACE = 0xEFFFFFFC
"""The kernel's own: its log names pids as they are there."""
OOM_EVENTS = ("memory.events", "memory.oom_control")
MAX_LOG_BYTES = 16 << 20
MAX_FILE_BYTES = 1 << 16
_KILLED = re.compile(r"ut of memory[^:]*: Killed process (\d+)")


class KernelKill(NamedTuple):
    """A line of the kernel's log: it killed a process for memory."""

    pid: int
    """In the initial pid namespace."""
    seconds: float
    """Since boot."""
    text: str


class Machine:
    """The machine that the reader runs on. Everything is read when first asked for."""

    def __init__(self, proc: Path = Path("/proc"), kernel_log: Path = Path("/dev/kmsg")) -> None:
        self._proc = proc
        self._kernel_log = kernel_log

    @cached_property
    def boot_id(self) -> str:
        """Which run of the machine this is; "" where it is not told."""
        try:
            return (self._proc / "sys/kernel/random/boot_id").read_text().strip()
        except (OSError, ValueError):
            return ""

    @cached_property
    def pid_namespace(self) -> int:
        """That of the reader; 0: not known."""
        return own_pid_namespace(self._proc)

    @cached_property
    def kernel_kills(self) -> list[KernelKill]:
        """Whom the kernel has killed for memory, as far as its log goes back; none where the log
        may not be read."""
        try:
            descriptor = os.open(self._kernel_log, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return []
        try:
            return list(filter(None, map(_kernel_kill, _records(descriptor))))
        finally:
            os.close(descriptor)

    def oom_kills(self, folder: str, number: int) -> int | None:
        """How many processes of a cgroup the kernel has killed for memory.

        None where that cgroup is gone (a folder made later in its place has another number), or
        `folder` is not below a mount of cgroups.
        """
        path = Path(folder)
        if not self._is_cgroup(path):
            return None
        try:
            if path.stat().st_ino != number:
                return None
        except (OSError, ValueError):
            return None
        for name in OOM_EVENTS:
            for line in _read_regular(path / name).splitlines():
                key, _, value = line.partition(" ")
                if key == "oom_kill" and value.isdecimal() and len(value) < 20:
                    return int(value)
        return None

    def _is_cgroup(self, path: Path) -> bool:
        if not path.is_absolute() or ".." in path.parts:
            return False
        return any(path.is_relative_to(mount) for mount in self._cgroup_mounts)

    @cached_property
    def _cgroup_mounts(self) -> list[Path]:
        try:
            lines = (self._proc / "self/mountinfo").read_text(errors="replace").splitlines()
        except OSError:
            return []
        mounts = []
        for line in lines:
            before, _, after = line.partition(" - ")
            if after.split(" ", 1)[0] in ("cgroup", "cgroup2") and len(before.split()) > 4:
                mounts.append(Path(before.split()[4]))
        return mounts


def _records(descriptor: int) -> list[str]:
    """The kernel's log, a record each: "priority,number,microseconds,flags;text"."""
    records, size = [], 0
    while size < MAX_LOG_BYTES:
        try:
            record = os.read(descriptor, 8192)
        except BrokenPipeError:  # overwritten while we read: the next read goes on behind it
            continue
        except OSError:  # the end: a log does not say so otherwise
            break
        if not record:
            break
        size += len(record)
        records.append(record.decode("utf-8", "replace"))
    return records


def _kernel_kill(record: str) -> KernelKill | None:
    prefix, _, text = record.partition(";")
    found = _KILLED.search(text)
    fields = prefix.split(",")
    if not found or len(fields) < 3 or not fields[2].isdecimal():
        return None
    return KernelKill(int(found[1]), int(fields[2]) / 1e6, text.splitlines()[0].strip())


def _read_regular(path: Path) -> str:
    """The start of a regular file as text; "" if it is none. Never waits."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except (OSError, ValueError):
        return ""
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ""
        return os.read(descriptor, MAX_FILE_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
    finally:
        os.close(descriptor)
