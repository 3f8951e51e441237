"""What both kinds of memray file have in common: allocators, code objects, shared records."""

from enum import IntEnum

from fastalloc.export.wire import Delta, cstring, svarint, u64, uvarint

CONTEXT_SWITCH = b"\x0c"
THREAD_RECORD = b"\x0a"
CODE_OBJECT = b"\x0e"

# A line table as Python 3.11 and later write it: "the first line" for offsets 0 to 15.
FIRST_PYTHON = 0x030B0000
LINE_TABLE = b"\xef\x00"
OFFSETS_PER_CODE = 8  # so a code object can stand for several frames of one line


class Allocator(IntEnum):
    """What memray calls the ways our domains are served, numbered as in formats 12 and 13."""

    PYMALLOC_FREE = 1
    PYMALLOC_MALLOC = 2
    PYMALLOC_CALLOC = 3
    FREE = 5
    MALLOC = 6
    MMAP = 14
    MUNMAP = 15


OLDER_NUMBERS = {
    Allocator.PYMALLOC_FREE: 15,
    Allocator.PYMALLOC_MALLOC: 12,
    Allocator.PYMALLOC_CALLOC: 13,
    Allocator.FREE: 2,
    Allocator.MALLOC: 1,
    Allocator.MMAP: 10,
    Allocator.MUNMAP: 11,
}

FREED_BY = {
    Allocator.PYMALLOC_MALLOC: Allocator.PYMALLOC_FREE,
    Allocator.PYMALLOC_CALLOC: Allocator.PYMALLOC_FREE,
    Allocator.MALLOC: Allocator.FREE,
    Allocator.MMAP: Allocator.MUNMAP,
}


def allocator_number(format: int, allocator: Allocator) -> int:
    """Return an allocator's number on the wire."""
    return allocator if format >= 12 else OLDER_NUMBERS[allocator]


def thread_name(name: str) -> bytes:
    """Encode the name of the thread switched to last."""
    return THREAD_RECORD + cstring(name)


def switch_to(thread: int) -> bytes:
    """Encode a switch to a thread."""
    return CONTEXT_SWITCH + u64(thread)


class CodeObjects:
    """Defines each (function, file, line, copy) once, for formats 12 and 13."""

    def __init__(self) -> None:
        self._first_line = Delta()
        self._ids: dict[tuple[str, str, int, int], int] = {}

    def locate(self, function: str, file: str, line: int, alias: int) -> tuple[bytes, int, int]:
        """Return (definition to write first, code id, instruction offset) of a frame.

        Aliases of a frame read as the same function, file and line, yet are distinct frames.
        """
        copy, slot = divmod(alias, OFFSETS_PER_CODE)
        key = (function, file, line, copy)
        known = self._ids.get(key)
        if known is not None:
            return b"", known, 2 * slot
        number = self._ids[key] = len(self._ids) + 1
        names = cstring(function) + cstring(file)
        table = uvarint(len(LINE_TABLE)) + LINE_TABLE
        definition = CODE_OBJECT + uvarint(number) + names + self._first_line(line) + table
        return definition, number, 2 * slot


def place(code: int, offset: int) -> bytes:
    """Encode where in a code object a frame stands."""
    return uvarint(code) + svarint(offset)
