"""Whether the process that wrote a recording still lives."""

from __future__ import annotations

from pathlib import Path

START_TICKS_FIELD = 22
"""Of /proc/<pid>/stat: when the process started, in clock ticks since boot. See proc(5)."""


def writer_lives(
    pid: int, start_ticks: int, pid_namespace: int, *, locked: bool, proc: Path = Path("/proc")
) -> bool:
    """Tell whether the process that wrote a recording still lives.

    `locked`: somebody holds the lock on the file, which the process holds as long as it lives, in
    whatever pid namespace. Where the file system knows no locks, or the file is a copy, the pid
    alone has to tell. Where both can be asked the pid is right: a child that the process left
    behind in the middle of a fork may hold the lock a while longer.
    """
    if is_alive(pid, start_ticks, proc=proc):
        return True
    return locked and pid_namespace != own_pid_namespace(proc)


def own_pid_namespace(proc: Path = Path("/proc")) -> int:
    """The number of the pid namespace that this process sees; 0: not known."""
    try:
        return (proc / "self/ns/pid").stat().st_ino
    except OSError:
        return 0


def is_alive(pid: int, start_ticks: int, *, proc: Path = Path("/proc")) -> bool:
    """Tell whether the process `pid` that started at `start_ticks` still lives.

    The start tells it from a later process with the same pid. A zombie does not live: it has
    given back its memory. Only processes of the reader's own pid namespace are found: seen
    from the host, a container's recording names a pid of the container.
    """
    try:
        # The first thread's, which says the same of the process. When a process under qemu's user-mode
        # emulation reads its own <pid>/stat, it gets another start than all others see.
        stat = (proc / f"{pid}/task/{pid}/stat").read_bytes()
    except OSError:
        return False
    fields = stat[stat.rfind(b")") + 1 :].split()  # field 2, the command, may hold anything
    first = 3  # number of fields[0]
    try:
        state, started = fields[0], int(fields[START_TICKS_FIELD - first])
    except (IndexError, ValueError):
        return False
    return state not in (b"Z", b"X") and started == start_ticks
