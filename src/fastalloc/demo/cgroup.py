"""A memory cgroup for own children: made, filled, emptied and removed, touching no other.

    with MemoryCgroup(limit_bytes=256 << 20) as group:
        subprocess.Popen(command, preexec_fn=group.enter)
        ...
        group.oom_kills()

The group is made below the cgroup this process is in, so it can only narrow what holds already.
Both versions are known: v1 (memory.limit_in_bytes) and v2 (memory.max). Where none can be made
(no rights, no memory controller, a read-only mount), entering raises CgroupUnavailable, whose
message says why.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

EMPTY_TIMEOUT_SECONDS = 10.0


class CgroupUnavailable(RuntimeError):
    """No memory cgroup can be made here; the message says why."""


class MemoryCgroup:
    """A new cgroup with a memory limit, swap included. Use it as a context manager.

    On exit, whatever still runs inside is killed (it holds only what was put into it) and the
    group is removed. `proc` is where the kernel describes this process; tests give another.
    """

    def __init__(
        self, limit_bytes: int, name: str | None = None, proc: Path = Path("/proc/self")
    ) -> None:
        self.limit_bytes = limit_bytes
        self.name = name or f"fastalloc-{os.getpid()}-{time.monotonic_ns():x}"
        self.path = Path()
        self.version = 0
        self._proc = proc

    def __enter__(self) -> MemoryCgroup:
        refusals = []
        for version, parent in _places(self._proc):
            path = parent / self.name
            try:
                path.mkdir()
            except OSError as error:
                refusals.append(f"{path}: {error.strerror}")
                continue
            try:
                self._limit(version, path)
            except OSError as error:
                refusals.append(f"{path}: the limit was not accepted: {error.strerror}")
                with suppress(OSError):
                    path.rmdir()
                continue
            self.version, self.path = version, path
            return self
        reason = "; ".join(refusals) or "no memory controller is mounted for this process"
        raise CgroupUnavailable(f"no memory cgroup can be made: {reason}")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.empty()
        with suppress(FileNotFoundError):
            self.path.rmdir()

    def enter(self) -> None:
        """Put the calling process into the group: for `preexec_fn`, between fork and exec."""
        (self.path / "cgroup.procs").write_text("0")

    def processes(self) -> list[int]:
        """The ids of the processes in the group."""
        return [int(line) for line in (self.path / "cgroup.procs").read_text().split()]

    def usage_bytes(self) -> int:
        """What the group uses now, page cache included."""
        file = "memory.current" if self.version == 2 else "memory.usage_in_bytes"
        return int((self.path / file).read_text())

    def oom_kills(self) -> int:
        """How many processes of the group the kernel has killed for want of memory."""
        file = "memory.events" if self.version == 2 else "memory.oom_control"
        for line in (self.path / file).read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == "oom_kill":
                return int(value)
        return 0

    def empty(self) -> None:
        """Kill what still runs in the group and wait until the kernel has let go of it."""
        deadline = time.monotonic() + EMPTY_TIMEOUT_SECONDS
        while (remaining := self.processes()) and time.monotonic() < deadline:
            for pid in remaining:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)

    def _limit(self, version: int, path: Path) -> None:
        limit = str(self.limit_bytes)
        if version == 2:
            _write(path / "memory.max", limit)
            with suppress(FileNotFoundError):  # a kernel without swap has no such file
                _write(path / "memory.swap.max", "0")
        else:
            _write(path / "memory.limit_in_bytes", limit)
            with suppress(FileNotFoundError):
                _write(path / "memory.memsw.limit_in_bytes", limit)


def _write(path: Path, value: str) -> None:
    # "r+": a control file that does not exist must not be made (in a plain folder it would be).
    with path.open("r+") as file:
        file.write(value)


def _places(proc: Path) -> Iterator[tuple[int, Path]]:
    """The cgroups below which a new one may be made: (version, folder), best first."""
    own = _own_cgroups(proc)
    for mount_root, mount_point, kind, options in _cgroup_mounts(proc):
        if kind == "cgroup" and "memory" in options and "memory" in own:
            yield 1, _inside(mount_point, mount_root, own["memory"])
        elif kind == "cgroup2" and "" in own:
            here = _inside(mount_point, mount_root, own[""])
            # A v2 cgroup with processes in it cannot have children with controllers, except the
            # root: then a sibling does, where the parent hands the memory controller down.
            for folder in (here, here.parent):
                if folder.is_relative_to(mount_point) and _hands_down_memory(folder):
                    yield 2, folder


def _own_cgroups(proc: Path) -> dict[str, str]:
    """Controller -> path of this process's cgroup; the key "" is the v2 hierarchy."""
    own = {}
    with suppress(OSError):
        for line in (proc / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            own.update(dict.fromkeys(controllers.split(","), path))
    return own


def _cgroup_mounts(proc: Path) -> Iterator[tuple[str, Path, str, list[str]]]:
    """The mounted hierarchies: (root of the mount, mount point, file system, options)."""
    with suppress(OSError):
        for line in (proc / "mountinfo").read_text().splitlines():
            before, _, after = line.partition(" - ")
            fields, tail = before.split(), after.split()
            if tail and tail[0] in ("cgroup", "cgroup2"):
                yield fields[3], Path(fields[4]), tail[0], tail[-1].split(",")


def _inside(mount_point: Path, mount_root: str, path: str) -> Path:
    """Where `path` of the hierarchy is seen; in a container the mount's root is not the top."""
    try:
        return mount_point / Path(path).relative_to(mount_root)
    except ValueError:
        return mount_point


def _hands_down_memory(folder: Path) -> bool:
    try:
        return "memory" in (folder / "cgroup.subtree_control").read_text().split()
    except OSError:
        return False
