"""The memory limit under which the demo's servers run: a memory cgroup, or RLIMIT_AS.

In a cgroup the kernel kills the largest process, as in a container. Where no cgroup can be made,
an address space limit makes allocations fail instead: Python raises MemoryError.
"""

from __future__ import annotations

import resource
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from .cgroup import CgroupUnavailable, MemoryCgroup

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MIB = 1 << 20
STACK_BYTES = 2 * MIB


class Confinement:
    """What both ways of limiting memory offer. This one itself limits nothing."""

    kills = False  # the limit ends a process, rather than failing its allocations
    note = ""  # why it is not the better way
    text = "no limit"
    environment: Mapping[str, str] = MappingProxyType({})  # for the server

    def enter(self) -> None:
        """Called in the server's process between fork and exec."""

    def arm(self, processes: list[int]) -> None:
        """Called when the server is up and warm, with all its processes."""

    def struck(self) -> bool:
        """Whether the limit has claimed a process."""
        return False


class ByCgroup(Confinement):
    kills = True

    def __init__(self, group: MemoryCgroup) -> None:
        self._group = group
        self.text = f"a memory cgroup (v{group.version}) of {group.limit_bytes // MIB} MiB"

    def enter(self) -> None:
        self._group.enter()

    def struck(self) -> bool:
        return self._group.oom_kills() > 0


class ByAddressSpace(Confinement):
    # One malloc arena and small thread stacks: else a process of several threads has mapped so
    # much more than it uses that the limit comes too late.
    environment = MappingProxyType({"MALLOC_ARENA_MAX": "1"})

    def __init__(self, limit_bytes: int, note: str) -> None:
        self._limit_bytes = limit_bytes
        self.note = note
        self.text = f"RLIMIT_AS, {limit_bytes // MIB} MiB above what each process has mapped"

    def enter(self) -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_STACK)
        resource.setrlimit(resource.RLIMIT_STACK, (STACK_BYTES, hard))

    def arm(self, processes: list[int]) -> None:
        page_bytes = resource.getpagesize()
        for process in processes:
            mapped = int(Path(f"/proc/{process}/statm").read_text().split()[0]) * page_bytes
            limit = mapped + self._limit_bytes
            resource.prlimit(process, resource.RLIMIT_AS, (limit, limit))


@contextmanager
def confined(limit_bytes: int) -> Iterator[Confinement]:
    """A cgroup where one can be made, an address space limit elsewhere."""
    group = MemoryCgroup(limit_bytes)
    try:
        group.__enter__()
    except CgroupUnavailable as unavailable:
        # One process may use half: the cgroup's limit would have to do for all workers.
        yield ByAddressSpace(limit_bytes // 2, str(unavailable))
        return
    try:
        yield ByCgroup(group)
    finally:
        group.__exit__(None, None, None)
