"""What the programs of these tests import: a library's calls, and what the recorder makes of them."""

from __future__ import annotations

import ctypes
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.core import inside

MALLOC, MMAP = 4, 5
PAGE = os.sysconf("SC_PAGESIZE")
READ, WRITE = 1, 2
SHARED, PRIVATE, FIXED, ANONYMOUS, NORESERVE = 1, 2, 0x10, 0x20, 0x4000
MAYMOVE = 1

BLOCK, SIZE, INT = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
SIGNATURES: dict[str, tuple[Any, ...]] = {  # what it returns, what it takes
    "call_malloc": (BLOCK, SIZE),
    "call_malloc_pointer": (BLOCK, SIZE),
    "call_free_pointer": (None, BLOCK),
    "call_calloc": (BLOCK, SIZE, SIZE),
    "call_realloc": (BLOCK, BLOCK, SIZE),
    "call_reallocarray": (BLOCK, BLOCK, SIZE, SIZE),
    "call_free": (None, BLOCK),
    "call_memalign": (BLOCK, SIZE, SIZE),
    "call_aligned_alloc": (BLOCK, SIZE, SIZE),
    "call_posix_memalign": (BLOCK, SIZE, SIZE),
    "call_valloc": (BLOCK, SIZE),
    "call_pvalloc": (BLOCK, SIZE),
    "call_mmap": (BLOCK, BLOCK, SIZE, INT, INT, INT),
    "call_munmap": (INT, BLOCK, SIZE),
    "call_mremap": (BLOCK, BLOCK, SIZE, SIZE, INT, BLOCK),
    "errno_after": (INT, INT, SIZE),
    "errno_of_failure": (INT, SIZE),
    "fail": (None, SIZE, SIZE),
    "churn": (None, SIZE, SIZE),
    "allocate_in_foreign_thread": (None, SIZE, SIZE, BLOCK),
    "allocate_in_small_thread": (None, SIZE),
    "storm": (SIZE, ctypes.c_uint64, SIZE),
    "storm_in_foreign_threads": (SIZE, INT),
    "storm_under_signals": (SIZE, ctypes.c_double),
    "begin_signals": (None, INT),
    "end_signals": (SIZE,),
    "next_of": (BLOCK, ctypes.c_char_p),
    "open_by_name": (BLOCK, ctypes.c_char_p),
}


def open_calls(loader: Callable[[str], Any] = ctypes.PyDLL) -> Any:
    """calls.c's library; through PyDLL its functions run with the GIL held."""
    library = loader(os.environ["TEST_CALLS"])
    for name, (result, *arguments) in SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def sample_at(address: int) -> tuple[int, int, int] | None:
    """(size, weight, domain) of the live sample at an address."""
    found = inside.live().get(address)
    return tuple(found) if found else None  # type: ignore[return-value]


def mapped_samples(start: int, end: int) -> list[tuple[int, int]]:
    """(offset, size) in pages of the mapped samples that begin in [start, end)."""
    return sorted(
        ((address - start) // PAGE, sample.size // PAGE)
        for address, sample in inside.live().items()
        if start <= address < end and sample.domain == MMAP
    )


def slots() -> dict[str, tuple[str, str, str]]:
    """Slot -> (object, function, what it holds), of all loaded objects."""
    library = ctypes.PyDLL(os.environ["TEST_SLOTS"])
    with tempfile.NamedTemporaryFile() as file:
        assert library.list_slots(file.name.encode()) == 0
        lines = [line.split() for line in file.read().decode().splitlines()]
    return {slot: (name, function, value) for name, function, slot, value in lines}


def protections() -> list[tuple[str, str, str]]:
    """(addresses, protection, file) of all that is mapped from files that hold code."""
    entries = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    libraries = {entry[5] for entry in entries if len(entry) > 5 and "x" in entry[1]}
    return [(e[0], e[1], e[5]) for e in entries if len(e) > 5 and e[5] in libraries]
