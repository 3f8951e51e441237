"""What the programs of these tests import: exact allocations, exact counters, an answer.

A program runs in a process of its own (see programs.py), starts the recorder, does something whose
allocations are known, stops, and calls `answer`.
"""

from __future__ import annotations

import ctypes
import json
import os
import struct
import sys
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import fastalloc
from fastalloc import _core
from fastalloc.recording.layout import HEADER, Region

core = _core
RAW, MEM, OBJ = range(3)
DOMAINS = (RAW, MEM, OBJ)
REGION = struct.Struct("<QQII")
LIVE = struct.Struct("<QQQ8x20xI8x")  # address, size, weight ... domain

library = ctypes.PyDLL(os.environ["TEST_ALLOCATOR"])  # holds the GIL while it runs
library_without_gil = ctypes.CDLL(os.environ["TEST_ALLOCATOR"])
for _library in (library, library_without_gil):
    for _name in ("allocate", "allocate_zeroed", "reallocate"):
        getattr(_library, _name).restype = ctypes.c_void_p
    _library.storm.restype = _library.storm_in_foreign_threads.restype = ctypes.c_size_t
    _size, _block, _domain = ctypes.c_size_t, ctypes.c_void_p, ctypes.c_int
    _library.allocate.argtypes = [_domain, _size]
    _library.allocate_zeroed.argtypes = [_domain, _size, _size]
    _library.reallocate.argtypes = [_domain, _block, _size]
    _library.release.argtypes = [_domain, _block]
    for _name in (
        "release",
        "allocate_many",
        "allocate_zeroed_many",
        "reallocate_many",
        "release_many",
        "churn",
        "churn_in_foreign_thread",
    ):
        getattr(_library, _name).restype = None  # or ctypes would make an int of garbage
    for _name in ("allocate_many", "allocate_zeroed_many", "reallocate_many"):
        getattr(_library, _name).argtypes = [_domain, _size, _size, _block]
    _library.release_many.argtypes = [_domain, _size, _block]
    _library.churn.argtypes = [_domain, _size, _size]
    _library.storm.argtypes = [_domain, ctypes.c_uint64, _size]
    _library.storm_in_foreign_threads.argtypes = [ctypes.c_int, _size]
    _library.churn_in_foreign_thread.argtypes = [_size, _size]


class Blocks:
    """Room for the addresses of `count` blocks."""

    def __init__(self, count: int, domain: int = RAW) -> None:
        self.count, self.domain = count, domain
        self.array = (ctypes.c_void_p * max(count, 1))()
        self.at = ctypes.addressof(self.array)

    def allocate(self, size: int, *, zeroed: bool = False) -> Blocks:
        call = library.allocate_zeroed_many if zeroed else library.allocate_many
        call(self.domain, size, self.count, self.at)
        return self

    def reallocate(self, size: int) -> None:
        library.reallocate_many(self.domain, size, self.count, self.at)

    def release(self) -> None:
        library.release_many(self.domain, self.count, self.at)

    def addresses(self) -> list[int]:
        return [address or 0 for address in self.array]


def counted(work: Callable[[], Any]) -> tuple[int, int]:
    """(allocations, bytes) of this thread while `work` ran, the call itself included."""
    list(range(1000, 1100))  # fills 3.14's list of free integers of one digit: those cost nothing
    before = _core.thread_totals()
    work()
    after = _core.thread_totals()
    # The two integers of `before` are counted too, but for those that Python has ready.
    ready = (1 << 30) - 1 if sys.version_info >= (3, 14) else 256
    own = [sys.getsizeof(number) for number in before if number > ready]
    return after[0] - before[0] - len(own), after[1] - before[1] - sum(own)


def counted_beyond(work: Callable[[int], Any], times: int) -> tuple[int, int]:
    """(allocations, bytes) of `work(times)` less those of `work(0)`: exact where `work` costs
    nothing else per time. Both are called before, so that caches are warm."""
    least = {0: (1 << 62, 1 << 62), times: (1 << 62, 1 << 62)}
    for _ in range(3):
        for n in (times, 0):
            least[n] = min(least[n], counted(lambda n=n: work(n)))
    return least[times][0] - least[0][0], least[times][1] - least[0][1]


class Sample(NamedTuple):
    """A live sample, as far as these tests ask."""

    size: int
    weight: int
    domain: int


def live() -> dict[int, Sample]:
    """The live samples by address, from the recording of this process. Much quicker than a
    snapshot; other threads must not allocate meanwhile."""
    file = os.open(fastalloc.status().recording, os.O_RDONLY)
    header = os.read(file, HEADER.itemsize)
    regions = HEADER.fields["regions"]
    offset, used, *_ = REGION.unpack_from(header, regions[1] + Region.LIVE * REGION.size)
    content = os.pread(file, used * LIVE.size, offset)
    os.close(file)
    return {
        entry[0]: Sample(entry[1], entry[2], entry[3])
        for entry in LIVE.iter_unpack(content)
        if entry[0]
    }


def wrong_samples(wanted: dict[int, int], domain: int | None = None) -> list[Any]:
    """What is wrong with the samples of blocks that are alive (address -> size) at interval 1."""
    found = live()
    return [
        (address, size, found.get(address))
        for address, size in wanted.items()
        if address not in found
        or found[address][:2] != (size, size)
        or (domain is not None and found[address].domain != domain)
    ]


def alive_of(addresses: Iterable[int], size: int) -> int:
    """How many of these addresses hold a sample of this size (what is freed is used again, most
    likely for another size)."""
    found = live()
    return sum(address in found and found[address].size == size for address in addresses)


def answer(**values: Any) -> None:
    """Tell the test; the last call wins."""
    sys.stdout.write("\n" + json.dumps(values) + "\n")
    sys.stdout.flush()
